// Messages there and back, and how long a round trip takes. Each side can be this program, ping_pong.c,
// python/ping_pong.py or ipc-core/examples/ping_pong.rs.
//
//     ./ping_pong_cpp server court & ./ping_pong_cpp client court

#include <ipc.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

constexpr int rounds = 10'000;

// Sends everything back, until the client goes.
static void serve(const ipc::connection& client) {
    auto messages = client.messages();
    for (const ipc::message message : messages) {
        client.send(message.bytes());
    }
    if (messages.ended_by().code() != ipc::errc::disconnected) {
        throw ipc::error(messages.ended_by());
    }
}

static void play(const ipc::connection& server) {
    const auto start = std::chrono::steady_clock::now();
    for (std::uint64_t ball = 0; ball < rounds; ball++) {
        server.send_value(ball);
        if (server.receive_value<std::uint64_t>() != ball) {
            throw std::runtime_error("ball " + std::to_string(ball) + " came back as something else");
        }
    }
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    std::printf("%d round trips, %.2f us each\n", rounds, time.count() / rounds);
}

int main(int argc, char** argv) try {
    const std::string side = argc == 3 ? argv[1] : "";
    if (side == "server") {
        serve(ipc::listen(argv[2]).accept());
    } else if (side == "client") {
        play(ipc::connect(argv[2], ipc::options().wait_for_listener()));
    } else {
        std::fprintf(stderr, "usage: ping_pong_cpp server|client NAME\n");
        return 2;
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "ping_pong_cpp: %s\n", error.what());
    return 1;
}
