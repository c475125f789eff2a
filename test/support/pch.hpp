#include <catch2/catch.hpp>
#include <memory>
#include <span>
#include <string>
#include <vector>
