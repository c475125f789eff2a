// The same small Redis with a coroutine for each client: redis_coro 127.0.0.1:6379

#include "key_value_coro.hpp"
#include "redis.hpp"

int main(int argc, char** argv) {
    return key_value::serve<redis::Store>(argc, argv, "127.0.0.1:6379");
}
