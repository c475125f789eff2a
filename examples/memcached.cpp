// A small memcached with callbacks: memcached 127.0.0.1:11211

#include "memcached.hpp"

#include "key_value_callback.hpp"

int main(int argc, char** argv) {
    return key_value::serve<memcached::Store>(argc, argv, "127.0.0.1:11211");
}
