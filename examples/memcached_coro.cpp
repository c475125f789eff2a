// The same small memcached with a coroutine for each client: memcached_coro 127.0.0.1:11211

#include "key_value_coro.hpp"
#include "memcached.hpp"

int main(int argc, char** argv) {
    return key_value::serve<memcached::Store>(argc, argv, "127.0.0.1:11211");
}
