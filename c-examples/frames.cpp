// A camera, or what draws like one: ipc-core/examples/frames.rs looks at its frames where they were drawn. Nobody copies
// a pixel.
//
//     cargo run --release -p ipc-core --example frames -- camera &
//     ./frames camera 30           # so many frames

#include <ipc.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

constexpr std::uint32_t width = 640, height = 480, side = 100;

// As in ipc-core/examples/frames.rs.
struct frame {
    std::uint64_t number;
    std::uint32_t columns, rows;
    std::uint8_t pixels[height][width][4]; // red, green, blue and nothing
};

// A white square that moves to the right, eight pixels a frame.
static void draw(frame& picture, std::uint64_t number) {
    picture.number = number;
    picture.columns = width;
    picture.rows = height;
    std::memset(picture.pixels, 0, sizeof picture.pixels);
    const std::uint32_t left = 8 * number % (width - side);
    for (std::uint32_t y = 0; y < side; y++) {
        std::memset(picture.pixels[y + (height - side) / 2][left], 255, sizeof picture.pixels[0][0] * side);
    }
}

int main(int argc, char** argv) try {
    if (argc != 3) {
        std::fprintf(stderr, "usage: frames NAME COUNT\n");
        return 2;
    }
    // Both sides say what they mean by a frame; one that means something else is refused.
    const auto options = ipc::options().wait_for_listener().payload<frame>("example/frame");
    const ipc::connection viewer = ipc::connect(argv[1], options);
    for (std::uint64_t number = 0; number < std::strtoull(argv[2], nullptr, 10); number++) {
        auto picture = viewer.lend_array<frame>(1);
        draw(picture[0], number);
        picture.commit();
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "frames: %s\n", error.what());
    return 1;
}
