#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace weft::tools {

/// What `weft echo` was asked for.
struct EchoOptions {
    std::vector<std::string> tcp;
    std::vector<std::string> udp;
    std::vector<std::string> unix_paths;
    unsigned threads = 1;    ///< one loop each; IP addresses are shared by reuse-port
    bool reuse_port = false; ///< share the port with other processes, too
    bool lines = false;      ///< answer line by line
    bool coroutines = false; ///< written with coroutines instead of callbacks
    double grace = 2;        ///< seconds that connections have to take their answers at the end
    bool stats = false;      ///< print counters at the end
    std::size_t max_connections = 0; ///< per thread and stream address; 0: no bound
};

/// Serves until SIGINT or SIGTERM; a second one ends the process at once. Prints the addresses to
/// standard output and errors to standard error. Returns the exit status: 0 if it ended as asked, 1
/// if it could not listen, 2 if an address is none or this build has no coroutines.
int run_echo(const EchoOptions& options);

} // namespace weft::tools
