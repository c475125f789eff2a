// A small Redis with callbacks: redis 127.0.0.1:6379. Try redis-cli, or redis-benchmark -t
// get,set,incr,ping_mbulk -P 16.

#include "redis.hpp"

#include "key_value_callback.hpp"

int main(int argc, char** argv) {
    return key_value::serve<redis::Store>(argc, argv, "127.0.0.1:6379");
}
