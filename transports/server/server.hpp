#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/transports/layer/layered_transport.hpp>

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)

namespace weft {

namespace detail {
class ServerState;
}

/// Makes the protocol for a new connection. Null refuses the connection; an exception closes it and
/// is reported.
using ProtocolFactory = Function<std::unique_ptr<Protocol>()>;

/// TCP keep-alive (tcp(7)): the first probe after `idle`, then one per `interval`, lost after
/// `probes`. 1 to 32767 seconds and 1 to 127 probes; `UsageError` for others.
struct KeepAlive {
    std::chrono::seconds idle{60};
    std::chrono::seconds interval{10};
    int probes = 6;
};

/// How a server listens. What cannot be meant, a negative number or duration, is a `UsageError`
/// that names it.
struct ListenOptions {
    int backlog = 1024;        ///< connections the kernel completes ahead of us; capped by
                               ///< net.core.somaxconn, and 0 is the fewest there can be
    bool reuse_address = true; ///< TCP: bind although old connections linger in TIME_WAIT
    bool reuse_port = false;   ///< TCP: several listeners share the port, one per loop
    bool ipv6_only = false;    ///< TCP: an IPv6 address does not take IPv4 connections as well
    bool nodelay = true;       ///< TCP: small writes leave at once
    std::optional<KeepAlive> keep_alive = {};            ///< TCP
    std::size_t max_connections = 0;                     ///< stop accepting at so many; 0: no bound
    Duration idle_timeout{0};                            ///< given to every connection; 0: none
    std::optional<WriteLimits> write_limits = {};        ///< likewise
    std::optional<Linger> linger = {};                   ///< likewise
    std::function<bool(const Address& peer)> admit = {}; ///< false closes the connection at once
    LayerFactory layer = {}; ///< what stands between every connection and its protocol
};

/// What to listen on: the text of one address or of several.
class ListenAddresses {
public:
    ListenAddresses(std::initializer_list<std::string_view> texts)
        : texts_(texts.begin(), texts.end()) {}
    ListenAddresses(std::string_view text) : texts_{std::string(text)} {}
    ListenAddresses(const char* text) : texts_{text} {}
    ListenAddresses(const std::string& text) : texts_{text} {}
    ListenAddresses(const std::vector<std::string>& texts) : texts_(texts) {}
    ListenAddresses(std::span<const std::string> texts) : texts_(texts.begin(), texts.end()) {}
    const std::vector<std::string>& texts() const noexcept { return texts_; }

private:
    std::vector<std::string> texts_;
};

/// Listening sockets and the connections that came of them. A handle: destroying it stops
/// listening, now; the connections live on. For the loop's thread.
class Server {
public:
    Server() noexcept;
    explicit Server(std::shared_ptr<detail::ServerState> state) noexcept;
    Server(Server&&) noexcept;
    Server& operator=(Server&&) noexcept;
    ~Server();

    /// What it listens on, one address per socket, with the real port where 0 was asked for. Empty
    /// after `close`.
    std::vector<Address> addresses() const;
    /// The port of the first address, 0 if it has none.
    std::uint16_t port() const;
    bool listening() const noexcept;
    std::size_t connections() const noexcept;

    /// Not accepting and accepting again, without closing the sockets. Idempotent.
    void pause_accepting();
    void resume_accepting();
    /// Stops listening and leaves the connections alone. A Unix path is removed if it is still this
    /// socket's. Idempotent.
    void close();
    /// Closes, or aborts, every connection. Goes on listening unless closed.
    void close_clients();
    void abort_clients();
    /// Stops listening, tells every protocol (`Protocol::draining`, in the next turn), and aborts
    /// what is still open after `deadline`: 0 or less is the next turn, `Duration::max()` is for
    /// ever. Completes when the last connection is gone, with the number of those aborted.
    Future<std::size_t> drain(Duration deadline);
    /// Completes when it does not listen any more and the last connection is gone.
    Future<void> wait_closed();

    /// What has happened since it began to listen.
    struct Counters {
        std::uint64_t accepted = 0;
        std::uint64_t refused = 0; ///< by `admit` or the factory
        std::uint64_t shed = 0;    ///< accepted and closed because descriptors had run out
        /// times that accepting was put off because resources had run out
        std::uint64_t pauses = 0;
    };
    Counters counters() const noexcept;

private:
    std::shared_ptr<detail::ServerState> state_;
};

namespace tcp {

/// Listens on "127.0.0.1:80", "[::1]:80", "localhost:80" (both loopbacks), "*:80" or ":80" (any
/// address, IPv6 and IPv4), or on several of them: on all or none. Port 0 lets the system choose,
/// one for both loopbacks. Accepted connections never call back before this returns. The error
/// names the address.
Result<Server> listen(Loop& loop, const ListenAddresses& addresses, ProtocolFactory factory,
                      const ListenOptions& options = {});

} // namespace tcp

namespace unix_socket {

/// Listens on a path, or on an abstract name ("@name"; Linux), with or without "unix:" before it. A
/// socket file that nobody listens on any more is replaced, one that answers is EADDRINUSE, and
/// anything else at the path is left alone (EEXIST). The folder is locked meanwhile (flock(2)), so
/// that of several that start at once one has the path and the others are told; it may take a fifth
/// of a second to find that another program keeps it locked. A relative path is the file's in the
/// program's present folder, also when that changes.
Result<Server> listen(Loop& loop, const ListenAddresses& paths, ProtocolFactory factory,
                      const ListenOptions& options = {});

} // namespace unix_socket

/// Listens on what texts name, TCP and Unix sockets alike: a Unix socket if `Address::names_unix`
/// says so ("unix:/path", "/path", "@name"), else as `tcp::listen` does. On all or none.
Result<Server> listen(Loop& loop, const ListenAddresses& addresses, ProtocolFactory factory,
                      const ListenOptions& options = {});

/// Serves a listening stream socket that was made elsewhere: inherited, or passed on by a
/// supervisor. The descriptor is weft's from now on, also if this fails. ENOTSOCK or EINVAL if it
/// is no listening stream socket.
Result<Server> adopt_listener(Loop& loop, int fd, ProtocolFactory factory,
                              const ListenOptions& options = {});

/// Makes a transport of a connected stream socket that was made elsewhere. `connection_made` comes
/// in the next turn. The descriptor is weft's on success and stays the caller's on failure.
Result<TransportRef> adopt_connection(Loop& loop, int fd, std::unique_ptr<Protocol> protocol);

} // namespace weft

#pragma GCC visibility pop
