#include "echo_style.hpp"

namespace weft::tools {

bool has_coroutines() noexcept {
    return false;
}
std::unique_ptr<EchoStyle> coroutine_style(Loop&, EchoCounters&) {
    return nullptr;
}

} // namespace weft::tools
