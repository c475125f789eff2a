// What Go's goroutines cost, on one thread that runs them.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

var (
	asJSON      = flag.Bool("json", false, "print JSON instead of a table")
	repetitions = flag.Int("repetitions", 15, "the fastest of so many is reported")
	many        = flag.Int("suspended", 20000, "goroutines that wait at once")
	figures     = map[string]float64{}
)

func measure(name string, operations int, body func()) {
	body()
	fastest := time.Duration(math.MaxInt64)
	for i := 0; i < *repetitions; i++ {
		start := time.Now()
		body()
		if took := time.Since(start); took < fastest {
			fastest = took
		}
	}
	figures[name] = float64(fastest.Nanoseconds()) / float64(operations)
}

func yieldAmong(many int) {
	each := 1000000 / many
	name, operations := fmt.Sprintf("yield, one of %d coroutines", many), each*many
	if many == 2 { // of two, there and back counts as one
		name, operations = "yield and back, 2 coroutines", each
	}
	measure(name, operations, func() {
		var all sync.WaitGroup
		all.Add(many)
		for i := 0; i < many; i++ {
			go func() {
				for n := 0; n < each; n++ {
					runtime.Gosched()
				}
				all.Done()
			}()
		}
		all.Wait()
	})
}

func handOff() {
	const count = 200000
	measure("channel, hand-off", 2*count, func() {
		there, back := make(chan int), make(chan int)
		go func() {
			for value := range there {
				back <- value
			}
		}()
		for n := 0; n < count; n++ {
			there <- 1
			<-back
		}
		close(there)
	})
}

func spawnAndJoin() {
	const count = 200000
	measure("spawn and join, one at a time", count, func() {
		done := make(chan struct{})
		for n := 0; n < count; n++ {
			go func() { done <- struct{}{} }()
			<-done
		}
	})
}

func skynet(first, leaves int, result chan<- int) {
	if leaves == 1 {
		result <- first
		return
	}
	sums := make(chan int)
	for i := 0; i < 10; i++ {
		go skynet(first+i*leaves/10, leaves/10, sums)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-sums
	}
	result <- sum
}

func residentBytes() float64 {
	kilobytes := 0.0
	for path, field := range map[string]string{
		"/proc/self/smaps_rollup": "Rss:", "/proc/self/status": "VmPTE:"} {
		text, _ := os.ReadFile(path)
		for _, line := range strings.Split(string(text), "\n") {
			var value float64
			if strings.HasPrefix(line, field) {
				fmt.Sscanf(line[len(field):], "%f", &value)
				kilobytes += value
			}
		}
	}
	return 1024 * kilobytes
}

func suspended(count int) {
	before := residentBytes()
	start := time.Now()
	over := make(chan struct{})
	var waiting, all sync.WaitGroup
	waiting.Add(count)
	all.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			waiting.Done()
			<-over
			all.Done()
		}()
	}
	waiting.Wait()
	took := time.Since(start)
	who := fmt.Sprintf("%d suspended, ", count)
	figures[who+"each"] = (residentBytes() - before) / float64(count)
	figures[who+"to spawn and first run"] = float64(took.Nanoseconds()) / float64(count)
	close(over)
	all.Wait()
}

func main() {
	flag.Parse()
	runtime.GOMAXPROCS(1)
	suspended(*many)
	yieldAmong(2)
	yieldAmong(1000)
	handOff()
	spawnAndJoin()
	measure("skynet, the same again", 1111110, func() {
		result := make(chan int)
		go skynet(0, 1000000, result)
		<-result
	})
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(figures)
		return
	}
	for name, value := range figures {
		fmt.Printf("%-44s %10.1f\n", name, value)
	}
}
