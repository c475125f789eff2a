// Go: a goroutine for each connection, the package net.
package main

import (
	"bufio"
	"flag"
	"log"
	"net"
	"runtime"
	"time"
)

var (
	port    = flag.Int("port", 8007, "port on 127.0.0.1")
	lines   = flag.Bool("lines", false, "answer each line with a write of its own")
	udp     = flag.Bool("udp", false, "echo datagrams")
	sink    = flag.Bool("sink", false, "answer only the datagrams that begin with '?'")
	hog     = flag.Bool("hog", false, "compute for a millisecond when a message begins with '!'")
	size    = flag.Int("buffer", 4096, "bytes of a connection's buffer")
	threads = flag.Int("threads", 1, "threads that run goroutines")
)

func work(message []byte) {
	if !*hog || message[0] != '!' {
		return
	}
	for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
	}
}

func echo(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, *size)
	for {
		size, err := connection.Read(buffer)
		if err != nil {
			return
		}
		work(buffer)
		if _, err = connection.Write(buffer[:size]); err != nil {
			return
		}
	}
}

func echoLines(connection net.Conn) {
	defer connection.Close()
	input := bufio.NewReader(connection)
	for {
		line, err := input.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err = connection.Write(line); err != nil {
			return
		}
	}
}

func echoDatagrams(socket *net.UDPConn) {
	buffer := make([]byte, 64*1024)
	for {
		size, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err == nil && (!*sink || buffer[0] == '?') {
			_, _ = socket.WriteToUDPAddrPort(buffer[:size], from)
		}
	}
}

func main() {
	flag.Parse()
	runtime.GOMAXPROCS(*threads)
	loopback := net.IPv4(127, 0, 0, 1)
	if *udp {
		socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback, Port: *port})
		if err != nil {
			log.Fatal(err)
		}
		echoDatagrams(socket)
	}
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: loopback, Port: *port})
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept() // with TCP_NODELAY, as all of Go's
		if err != nil {
			log.Fatal(err)
		}
		if *lines {
			go echoLines(connection)
		} else {
			go echo(connection)
		}
	}
}
