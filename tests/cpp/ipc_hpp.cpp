/// @file ipc_hpp.cpp
/// Every wrapper of ipc.hpp does what it says: between threads of one process, and between two processes.
///
/// Promise: ends with 0 if everything held, with 1 and a line for each thing that did not otherwise. Works with and without exceptions,
/// in C++17 and later: `c++ -std=c++17 -Iinclude tests/cpp/ipc_hpp.cpp -lipc -pthread`.
/// Refusal: the library itself is not tested here.

#include "ipc.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#if defined(__cpp_lib_concepts)
#include <concepts>
#include <iterator>
#endif

using namespace std::chrono_literals;

namespace {

int failures = 0;

#define CHECK(what)                                                                 \
    do {                                                                            \
        if (!(what)) {                                                              \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
            ++failures;                                                             \
        }                                                                           \
    } while (false)

[[noreturn]] void give_up(const char* text, int line) {
    std::fprintf(stderr, "%s:%d: %s\n", __FILE__, line, text);
    std::_Exit(1);
}

/// The value, without which the test makes no sense.
template <class T>
T need(ipc::result<T> got, int line) {
    if (!got) { give_up(got.text(), line); }
    return *std::move(got);
}
void need(const ipc::result<void>& got, int line) {
    if (!got) { give_up(got.text(), line); }
}
#define NEED(...) need((__VA_ARGS__), __LINE__)

#if IPC_HPP_EXCEPTIONS
/// The code of what a call throws; ok if nothing.
template <class Call>
std::error_code thrown(Call call) {
    try {
        call();
    } catch (const ipc::error& error) {
        CHECK(std::strlen(error.what()) > 0);
        CHECK(error.code() == ipc::make_error_code(error.why().code()));
        return error.code();
    }
    return ipc::make_error_code(ipc::errc::ok);
}
#endif

// Counted, so that a test can say that a path allocates nothing. Sanitizers have their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

} // namespace

#if !defined(SANITIZED)
static thread_local unsigned long allocations = 0;

// Not inlined: compilers take free() for the wrong end of what they see to come from new.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size)) { return memory; }
    std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace {

/// Where sockets of this run are.
std::string directory;

std::string fresh_name() {
    static int number = 0;
    return directory + "/" + std::to_string(number++);
}

struct pair {
    ipc::listener listener;
    ipc::connection server;
    ipc::connection client;
};

/// Two ends in one process.
pair make_pair(const ipc::options& listening = {}, const ipc::options& connecting = {}) {
    const std::string name = fresh_name();
    pair made;
    made.listener = NEED(ipc::try_listen(name, listening));
    std::thread client([&] { made.client = NEED(ipc::try_connect(name, connecting)); });
    made.server = NEED(made.listener.try_accept(10s));
    client.join();
    return made;
}

/// This program again, in a role; with its exit code.
class child {
  public:
    child(const char* role, const std::string& name) {
        id_ = ::fork();
        if (id_ == 0) {
            ::execl("/proc/self/exe", "ipc_hpp", role, name.c_str(), static_cast<char*>(nullptr));
            std::_Exit(126);
        }
    }
    int wait() {
        int status = -1;
        if (::waitpid(id_, &status, 0) != id_) { return -1; }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

  private:
    ::pid_t id_;
};

struct sample {
    std::uint64_t number;
    double value;
};
static_assert(std::is_trivially_copyable_v<sample>);

bool operator==(const sample& one, const sample& other) { return one.number == other.number && one.value == other.value; }

std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t at = 0; at < size; ++at) { bytes[at] = static_cast<std::byte>(at * 7 + size); }
    return bytes;
}

bool same(ipc::bytes_view one, ipc::bytes_view other) {
    return one.size() == other.size() && (one.empty() || std::memcmp(one.data(), other.data(), one.size()) == 0);
}

bool becomes_readable(int fd, int ms) {
    ::pollfd event{fd, POLLIN, 0};
    return ::poll(&event, 1, ms) == 1 && (event.revents & POLLIN) != 0;
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// What is known without a peer.

template <class T>
inline constexpr bool moves_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                                   !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
                                   std::is_nothrow_destructible_v<T>;
static_assert(moves_only<ipc::listener> && moves_only<ipc::connection> && moves_only<ipc::message> && moves_only<ipc::held> &&
              moves_only<ipc::batch> && moves_only<ipc::reservation> && moves_only<ipc::loan> &&
              moves_only<ipc::detached_loan> && moves_only<ipc::unique_fd> && moves_only<ipc::file_list> &&
              moves_only<ipc::received_batch<4>>);
static_assert(std::is_trivially_copyable_v<ipc::sender> && std::is_trivially_copyable_v<ipc::receiver>);
static_assert(!std::is_constructible_v<ipc::bytes_view, std::nullptr_t>);
static_assert(!std::is_constructible_v<ipc::bytes_view, std::vector<std::string>>);
#if defined(__cpp_lib_concepts)
static_assert(std::input_iterator<ipc::message_range::iterator>);
static_assert(std::sentinel_for<ipc::end_of_messages, ipc::message_range::iterator>);
static_assert(std::input_iterator<ipc::batch_range::iterator> && std::input_iterator<ipc::incoming_batch::iterator>);
static_assert(std::sentinel_for<ipc::end_of_messages, ipc::incoming_batch::iterator>);
#endif

void times_become_nanoseconds() {
    using ipc::timeout;
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    static_assert(timeout(2ms).native() == 2'000'000);
    static_assert(timeout(0s).native() == 0 && ipc::no_wait.native() == 0 && ipc::forever.native() < 0);
    CHECK(timeout(-1s).native() == 0); // Not without end, as the same number is in C.
    CHECK(timeout(std::chrono::hours::max()).native() == most);
    CHECK(timeout(std::chrono::nanoseconds::max()).native() == most);
    CHECK((timeout(std::chrono::duration<std::int64_t, std::pico>(1001)).native() == 2));
    CHECK((timeout(std::chrono::duration<std::int64_t, std::pico>(1)).native() == 1)); // A wait stays one.
    CHECK(timeout(std::chrono::duration<double>(0.25)).native() == 250'000'000);
    CHECK(timeout(std::chrono::duration<double>(1e30)).native() == most);
    CHECK(timeout(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())).native() == 0);
    CHECK(timeout::from_native(7).native() == 7);
    const auto left = timeout::until(std::chrono::steady_clock::now() + 1h).native();
    CHECK(left > 3'599'000'000'000 && left <= 3'600'000'000'000);
    CHECK(timeout::until(std::chrono::steady_clock::now() - 1h).native() == 0);
}

void codes_are_standard_ones() {
    for (int code = 0; code <= IPC_DEFECT; ++code) {
        const auto error = ipc::make_error_code(static_cast<ipc::errc>(code));
        CHECK(error.value() == code && error.category() == ipc::category());
        CHECK(error.message() == ipc::describe(static_cast<ipc::errc>(code)));
        CHECK(bool(error) == (code != 0));
        // Each but system has a counterpart.
        const bool is_generic = error.default_error_condition().category() == std::generic_category();
        CHECK(code == 0 || is_generic == (code != IPC_SYSTEM));
    }
    const std::error_code code = ipc::errc::timed_out;
    CHECK(code == ipc::errc::timed_out && code == std::errc::timed_out && code != std::errc::message_size);
    CHECK(std::strcmp(ipc::category().name(), "ipc") == 0);
}

void failures_carry_the_text_of_the_library() {
    const auto got = ipc::try_connect("no such name!");
    CHECK(!got && got.code() == ipc::errc::bad_address);
    CHECK(std::strstr(got.text(), "no such name!") != nullptr);
    CHECK(got.error() == ipc::errc::bad_address && got.error() != ipc::errc::ok);
    CHECK(got.error().native_code() == IPC_BAD_ADDRESS);
    const std::string words = got.text();
    ipc::failure copy = got.error();
    CHECK(!ipc::try_connect("/no/such/file")); // Another failure does not change the first.
    CHECK(words == got.text() && words == copy.text());
    ipc::failure moved = std::move(copy);
    CHECK(words == moved.text());
    ipc::failure other;
    CHECK(other.code() == ipc::errc::ok && std::strcmp(other.text(), ipc::describe(ipc::errc::ok)) == 0);
    other = moved;
    CHECK(words == other.text() && words == moved.text());
    other = std::move(moved);
    CHECK(words == other.text() && !other.is_timeout() && !other.is_disconnect());
    const auto nobody = ipc::try_connect("/tmp/libipc-nobody-listens-here");
    CHECK(nobody.code() == ipc::errc::not_found && !nobody.error().system_code());
    // The system's number comes along: a directory that cannot be written.
    const auto system = ipc::try_listen("/proc/libipc");
    CHECK(!system);
    CHECK((system.code() == ipc::errc::system) == bool(system.error().system_code()));
#if IPC_HPP_EXCEPTIONS
    CHECK(thrown([] { (void)ipc::connect("no such name!"); }) == std::errc::address_not_available);
    CHECK(thrown([] { (void)ipc::listen("no such name!"); }) == ipc::errc::bad_address);
    try {
        (void)ipc::connect("no such name!");
        CHECK(false);
    } catch (const std::runtime_error& error) {
        CHECK(words == error.what());
    }
#endif
}

void results_have_a_value_or_a_failure() {
    ipc::result<std::string> good = std::string("value");
    CHECK(good && good.has_value() && *good == "value" && good->size() == 5 && good.code() == ipc::errc::ok);
    CHECK(std::move(good).value_or("other") == "value");
    ipc::result<std::string> bad = ipc::failure(ipc::errc::busy, "words");
    CHECK(!bad && bad.code() == ipc::errc::busy && std::strcmp(bad.text(), "words") == 0);
    CHECK(std::move(bad).value_or("other") == "other");
    const ipc::result<int> fixed = 7;
    CHECK(*fixed == 7 && *ipc::result<int>(8) == 8);
    const ipc::result<std::string> text = std::string("x");
    CHECK(text->size() == 1);
    ipc::result<void> done;
    CHECK(done && done.has_value());
    *done;
    done = ipc::failure(ipc::errc::closed, "words");
    CHECK(!done && done.code() == ipc::errc::closed && std::strcmp(done.text(), "words") == 0);
    CHECK(std::move(done).error() == ipc::errc::closed);
#if IPC_HPP_EXCEPTIONS
    CHECK(fixed.value() == 7 && ipc::result<int>(8).value() == 8);
    ipc::result<int> changed = 1;
    changed.value() = 2;
    CHECK(changed.value() == 2);
    CHECK(thrown([] { (void)ipc::result<int>(ipc::failure(ipc::errc::busy, "words")).value(); }) == ipc::errc::busy);
    CHECK(thrown([] { ipc::result<void>(ipc::failure(ipc::errc::busy, "words")).value(); }) == ipc::errc::busy);
#endif
#if defined(__cpp_lib_expected)
    std::expected<int, ipc::failure> expected = ipc::result<int>(3);
    CHECK(expected.has_value() && *expected == 3);
    expected = ipc::result<int>(ipc::failure(ipc::errc::busy, "words"));
    CHECK(!expected.has_value() && expected.error() == ipc::errc::busy);
    std::expected<void, ipc::failure> nothing = ipc::result<void>();
    CHECK(nothing.has_value());
    nothing = ipc::result<void>(ipc::failure(ipc::errc::busy, "words"));
    CHECK(!nothing.has_value());
#endif
}

void bytes_are_of_texts_containers_and_arrays() {
    CHECK(ipc::bytes_view().empty() && ipc::bytes_view("").empty());
    CHECK(ipc::bytes_view("four").size() == 4 && ipc::bytes_view("four").text() == "four");
    CHECK(ipc::bytes_view(std::string("a\0b", 3)).size() == 3);
    CHECK(ipc::bytes_view(std::string_view("abc")).size() == 3);
    CHECK(ipc::bytes_view("abc", 2).text() == "ab");
    const std::vector<double> numbers(5);
    CHECK(ipc::bytes_view(numbers).size() == 40);
    const int plain[3] = {1, 2, 3};
    CHECK(ipc::bytes_view(plain).size() == 12 && ipc::bytes_view(plain).data() == reinterpret_cast<const std::byte*>(plain));
    std::array<char, 2> letters = {'x', 'y'};
    const ipc::bytes_view view = letters;
    CHECK(view[1] == std::byte{'y'} && view.end() - view.begin() == 2);
    std::vector<std::byte> bytes(4);
    const ipc::span<std::byte> writable(bytes);
    CHECK(ipc::bytes_view(writable).size() == 4);
    const ipc::span<const std::byte> readable(bytes.data(), 3);
    CHECK(readable.size() == 3 && !readable.empty() && &readable[2] == &bytes[2] && readable.end() - readable.begin() == 3);
    CHECK(ipc::bytes_view(readable).size() == 3);
    char field[6] = {};
    CHECK(ipc::span<char>(field).size() == 6 && ipc::span<char>().empty());
    const std::vector<int> fds = {3, 4};
    CHECK(ipc::fds_view(fds).size() == 2 && ipc::fds_view(plain).size() == 3 && ipc::fds_view(fds[0]).data() == &fds[0]);
    CHECK(ipc::fds_view(fds.data(), 1).size() == 1);
}

void files_are_closed_once() {
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    {
        ipc::unique_fd one(ends[0]);
        CHECK(one && one.get() == ends[0]);
        ipc::unique_fd other = std::move(one);
        CHECK(!one && other.get() == ends[0] && is_open(ends[0]));
        ipc::unique_fd assigned;
        assigned = std::move(other);
        CHECK(assigned.get() == ends[0] && is_open(ends[0]));
        const int out = assigned.release();
        CHECK(out == ends[0] && !assigned && is_open(out));
        assigned.reset(out);
        assigned.reset(ends[1]);
        CHECK(!is_open(ends[0]) && is_open(ends[1]));
    }
    CHECK(!is_open(ends[1]));
}

void options_become_those_of_c() {
    const auto payload = std::string("sample");
    ipc::options all;
    all.mode(ipc::mode::hybrid).wait(ipc::wait_strategy::adaptive, 7us).timeout(3s).rings(4096, 8192).credit(1, 2, 3);
    all.coalesce(4, 5us).max_memory(6).max_connections(7).permissions(0640).lazy_memory().lazy_pages().huge_pages();
    all.no_membarrier().no_arena().anyone().wait_for_listener().users({8, 9}).payload<sample>(payload);
    all.admit([](const ipc::peer_identity&) { return true; });
    const ipc::options copy = all;
    const ipc_options c = copy.native();
    CHECK(c.size == sizeof c && c.mode == IPC_MODE_HYBRID && c.wait == IPC_WAIT_ADAPTIVE && c.spin_ns == 7000);
    CHECK(c.timeout_ns == 3'000'000'000 && c.ring_to_server == 4096 && c.ring_to_client == 8192);
    CHECK(c.credit_messages == 1 && c.credit_arena == 2 && c.credit_message == 3);
    CHECK(c.coalesce_messages == 4 && c.coalesce_ns == 5000 && c.max_memory == 6 && c.max_connections == 7);
    CHECK(c.permissions == 0640 && c.flags == 127);
    CHECK(c.user_count == 2 && c.users[1] == 9 && c.admit != nullptr && c.admit_data != nullptr);
    CHECK(payload == c.payload_name && c.payload_size == sizeof(sample) && c.payload_align == alignof(sample));
    all.lazy_memory(false).lazy_pages(false).huge_pages(false).no_membarrier(false).no_arena(false).anyone(false);
    all.wait_for_listener(false).admit(nullptr).users({}).timeout(ipc::forever);
    CHECK(all.native().flags == 0 && all.native().admit == nullptr && all.native().users == nullptr);
    CHECK(all.native().timeout_ns < 0 && ipc::options().native().payload_name == nullptr);
    // What C refuses, this does: the flag is not for listeners.
    CHECK(ipc::try_listen(fresh_name(), ipc::options().wait_for_listener()).code() == ipc::errc::invalid);
}

void the_library_says_what_it_is_and_what_lanes_cost() {
    CHECK(ipc::version() == ipc::header_version);
    CHECK(std::string(ipc::version_text()).find('.') != std::string::npos);
    const auto cost = NEED(ipc::try_cost(ipc::mode::shared, ipc::lane::in_line));
    CHECK(cost.of(1000) > cost.of(0) && cost.of(0) > 0);
    CHECK(cost.measured_by() == ipc::cost_origin::compiled_in || cost.measured_by() == ipc::cost_origin::quick ||
          cost.measured_by() == ipc::cost_origin::full);
    ipc::lane_cost kinked{};
    kinked.fixed_ns = 10;
    kinked.per_byte_ns = 1;
    kinked.knee = 100;
    kinked.fixed_beyond_ns = 200;
    kinked.per_byte_beyond_ns = 2;
    CHECK(kinked.of(100) == 110 && kinked.of(101) == 202);
    CHECK(ipc::try_cost(ipc::mode::kernel, ipc::lane::in_line).code() == ipc::errc::no_lane);
    // (1000 + 1 * 16) / (1 - 0.5)
    CHECK(NEED(ipc::try_crossover(100, 1, 1000, 0.5, 16)) == 2032);
    CHECK(ipc::try_crossover(-1, 1, 1, 1, 16).code() == ipc::errc::invalid);
    const auto measured = ipc::try_calibrate();
    CHECK(measured || measured.error().is_timeout());
#if IPC_HPP_EXCEPTIONS
    CHECK(ipc::cost(ipc::mode::shared, ipc::lane::arena).of(1) > 0);
    CHECK(ipc::crossover(100, 1, 1000, 0.5, 16) == 2032);
    (void)ipc::calibrate();
#endif
}

// Between two threads.

void messages_arrive_whole_and_in_order() {
    auto [listener, server, client] = make_pair();
    NEED(client.try_send("hello"));
    NEED(client.try_send_value(sample{1, 2.5}));
    NEED(client.try_send_vectored({"one", std::string_view("two"), ipc::bytes_view()}));
    NEED(client.try_send({}));
    {
        ipc::message message = NEED(server.try_receive(10s));
        CHECK(message.text() == "hello" && message.size() == 5 && !message.empty() && message.file_count() == 0);
        CHECK(message.bytes().size() == 5 && message.bytes()[0] == std::byte{'h'});
        CHECK(message.native().len == 5 && message.lane() == ipc::lane::in_line && !message.is_sealed());
        CHECK(message.try_value<sample>().code() == ipc::errc::invalid);
        CHECK(message.try_values<std::uint32_t>().code() == ipc::errc::invalid);
        ipc::message moved = std::move(message);
        CHECK(moved.text() == "hello");
    }
    CHECK(NEED(server.try_receive_value<sample>(10s)) == (sample{1, 2.5}));
    CHECK(NEED(server.try_receive(10s)).text() == "onetwo");
    {
        const auto empty = NEED(server.try_receive(10s));
        CHECK(empty.empty() && NEED(empty.try_values<int>()).empty());
    }
    NEED(server.try_release());
    CHECK(server.try_receive(ipc::no_wait).code() == ipc::errc::would_block);
    CHECK(server.try_receive(5ms).code() == ipc::errc::timed_out);
    CHECK(server.try_receive_value<sample>(ipc::no_wait).error().is_timeout());
    const auto long_one = pattern(1 << 20);
    std::thread sending([sender = client.sending(), &long_one] {
        NEED(sender.try_send(long_one));
        NEED(sender.try_send(long_one));
    });
    std::vector<std::byte> buffer(1 << 20);
    std::size_t needed = 0;
    CHECK(server.try_receive_into(ipc::span<std::byte>(buffer.data(), 10), 10s, &needed).code() == ipc::errc::too_short);
    CHECK(needed == buffer.size());
    CHECK(NEED(server.try_receive_into(buffer, 10s)) == buffer.size() && same(buffer, long_one));
    CHECK(same(NEED(server.try_receive(10s)), long_one));
    sending.join();
    const std::uint32_t numbers[] = {1, 2, 3};
    NEED(client.try_send(numbers));
    const auto message = NEED(server.try_receive(10s));
    const auto values = NEED(message.try_values<std::uint32_t>());
    CHECK(values.size() == 3 && values[2] == 3);
    NEED(client.try_send(message)); // A message is bytes, too.
    CHECK(NEED(server.try_receive(10s)).size() == 12);
}

#if IPC_HPP_EXCEPTIONS
void throwing_forms_do_the_same() {
    const std::string name = fresh_name();
    ipc::listener listener = ipc::listen(name, ipc::options().rings(4096, 4096));
    CHECK(!listener.accept(5ms));
    ipc::connection client;
    std::thread connecting([&] { client = ipc::connect(name); });
    ipc::connection server = listener.accept();
    connecting.join();
    CHECK(listener.status().connections == 1);
    client.send("a");
    CHECK(client.send("b", 1s));
    client.send_value(3);
    CHECK(client.send_value(4, 1s));
    client.send_vectored({"c", "d"});
    CHECK(client.send_vectored({"e", "f"}, 1s));
    client.send_many({"g", "h"});
    CHECK(client.send_many({"i", "j"}, 1s) == 2);
    client.send_with_files("k", 0);
    CHECK(client.send_with_files("l", {0, 1}, 1s));
    client.flush();
    CHECK(server.receive().text() == "a" && server.receive(1s)->text() == "b");
    CHECK(server.receive_value<int>() == 3 && server.receive_value<int>(1s) == 4);
    std::array<std::byte, 8> buffer;
    CHECK(server.receive_into(buffer) == 2 && server.receive_into(buffer, 1s) == 2u && buffer[0] == std::byte{'e'});
    ipc::received_batch<3> batch;
    server.receive_many(batch);
    std::size_t count = batch.size();
    while (count < 4) {
        CHECK(server.receive_many(batch, 1s));
        count += batch.size();
    }
    CHECK(count == 4 && batch.back().text() == "j");
    {
        ipc::message with_file = server.receive();
        CHECK(with_file.text() == "k" && with_file.take_files().size() == 1);
    }
    while (server.receive_many(batch, 10ms)) { CHECK(batch.back().text() == "l" && batch.take_files().size() == 2); }
    server.release();
    CHECK(!server.receive(ipc::no_wait) && !server.receive_into(buffer, 1ms) && !server.receive_value<int>(1ms));
    client.send("wrong length");
    CHECK(thrown([&] { (void)server.receive_value<int>(); }) == ipc::errc::invalid);
    client.send_value(std::array<int, 2>{5, 6});
    {
        const auto message = server.receive();
        CHECK(message.values<int>()[1] == 6 && (message.value<std::array<int, 2>>()[0] == 5));
        CHECK(thrown([&] { (void)message.value<int>(); }) == std::errc::invalid_argument);
        CHECK(thrown([&] { (void)message.values<sample>(); }) == std::errc::invalid_argument);
    }
    ipc::reservation reserved = client.reserve(3);
    std::memcpy(reserved.data(), "abc", 3);
    reserved.commit();
    CHECK(server.receive().text() == "abc");
    CHECK(thrown([&] { reserved.commit(); }) == ipc::errc::busy);
    CHECK(client.reserve(3, 1s).has_value()); // Given up at once.
    ipc::loan lent = client.lend(100);
    lent.commit(50);
    ipc::held kept = server.receive().hold();
    CHECK(kept.size() == 50 && kept.take_files().empty());
    client.lend(10, 1s)->commit();
    CHECK(server.receive().size() == 10);
    client.lend_array<double>(4).commit();
    CHECK(server.receive().size() == 32);
    client.lend_array<double>(4, 1s)->commit(1);
    CHECK(server.receive().size() == 8);
    auto detached = client.lend_array<double>(4).detach();
    client.send_loan(std::move(detached), 2);
    CHECK(server.receive().size() == 16);
    detached = client.lend_array<double>(4).detach();
    CHECK(client.send_loan(std::move(detached), 4, 1s));
    CHECK(server.receive().size() == 32);
    ipc::batch pushed = client.batch();
    pushed.push("m");
    CHECK(pushed.push("n", 1s));
    pushed.publish();
    CHECK(server.receive().text() == "m" && server.receive().text() == "n");
    client.send_many({"o", "p"});
    CHECK((*server.receive_batch().begin()).text() == "o" && (*server.receive_batch(1, 1s)->begin()).text() == "p");
    CHECK(!server.receive_batch(0, 1ms));
    server.release();
    const ipc::sender sender = client.sending();
    const ipc::receiver receiver = server.receiving();
    CHECK(sender.status().sent == receiver.status().received && sender.check_peer());
    sender.set_route(ipc::route::threshold(100));
    CHECK(sender.route_text().find("100") != std::string::npos && sender.route_text().back() != '\0');
    CHECK(sender.trim(0s) < (1u << 30) && !sender.arm() && receiver.arm());
    sender.send("never read");
    CHECK(sender.undelivered() == 1 && sender.undelivered([](ipc::bytes_view) {}) == 1);
    bool came_out = false;
    try {
        sender.undelivered([](ipc::bytes_view) { throw 7; });
    } catch (int seven) {
        came_out = seven == 7;
    }
    CHECK(came_out);
    // The ring is full at some time: that is an answer, not an exception.
    int fitted = 0;
    while (sender.send(pattern(500), ipc::no_wait)) { ++fitted; }
    CHECK(fitted > 0 && !sender.send_value(std::array<char, 500>{}, 1ms) && sender.send_many({pattern(500)}, ipc::no_wait) == 0);
    CHECK(!sender.reserve(500, ipc::no_wait) && !sender.batch().push(pattern(500), 1ms));
    server.set_wait(ipc::wait_strategy::sleep);
    CHECK(server.peer().pid == ::getpid());
    server.close_receiving();
    CHECK(thrown([&] { (void)server.receive(); }) == ipc::errc::closed);
    server.close_sending();
    CHECK(thrown([&] { (void)client.receive(); }) == ipc::errc::disconnected);
    CHECK(thrown([&] { (void)client.receive(1s); }) == ipc::errc::disconnected);
    server.close();
    CHECK(!sender.check_peer());
    CHECK(thrown([&] { (void)client.send("x", 1s); }) == ipc::errc::disconnected);
    CHECK(thrown([&] { client.send("x"); }) == std::errc::not_connected);
}
#endif

void loops_end_with_the_connection() {
    auto [listener, server, client] = make_pair();
    std::thread sending([&client = client] {
        for (int number = 0; number < 1000; ++number) { NEED(client.try_send_value(number)); }
        client.close();
    });
    int expected = 0;
    auto messages = server.messages();
    CHECK(messages.ended_by() == ipc::errc::ok);
    for (ipc::message message : messages) {
        CHECK(NEED(message.try_value<int>()) == expected);
        ++expected;
    }
    sending.join();
    CHECK(expected == 1000 && messages.ended_by() == ipc::errc::disconnected && messages.ended_by().is_disconnect());
    CHECK(!client && server.try_send("x").code() == ipc::errc::disconnected);
    auto more = server.messages(ipc::no_wait);
    for (ipc::message message : more) { CHECK(message.empty() && false); }
    CHECK(more.ended_by().is_disconnect());
    auto other = make_pair();
    NEED(other.client.try_send("one"));
    auto few = other.server.receiving().messages(5ms);
    auto at = few.begin();
    CHECK((*at).text() == "one" && at != few.end() && few.end() != at);
    at++;
    CHECK(at == few.end() && few.end() == at && few.ended_by().is_timeout());
}

void batches_come_together() {
    auto [listener, server, client] = make_pair();
    std::size_t sent = 0;
    NEED(client.try_send_many({"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, 10s, &sent));
    CHECK(sent == 10);
    ipc::received_batch<4> batch;
    CHECK(batch.empty());
    NEED(server.try_receive_many(batch, 10s));
    CHECK(batch.size() == 4 && batch[0].text() == "0" && batch.back().text() == "3" && batch.begin() + 4 == batch.end());
    auto moved = std::move(batch);
    CHECK(moved[3].text() == "3");
    auto pushed = client.batch();
    NEED(pushed.try_push("10"));
    NEED(pushed.try_push("11", 10s));
    CHECK(client.try_send("not now").code() == ipc::errc::busy);
    NEED(pushed.try_publish());
    NEED(pushed.try_publish()); // Nothing is open.
    NEED(pushed.try_push("given up"));
    pushed.cancel();
    {
        auto dropped = client.batch();
        NEED(dropped.try_push("given up too"));
        auto its_heir = std::move(dropped);
        auto third = client.batch();
        third = std::move(its_heir);
    }
    client.close();
    int expected = 4;
    auto batches = server.batches(3);
    for (auto& some : batches) {
        int in_batch = 0;
        for (const ipc::message message : some) {
            CHECK(message.text() == std::to_string(expected));
            ++expected;
            ++in_batch;
        }
        CHECK(in_batch > 0 && in_batch <= 3 && some.ended_by() == ipc::errc::would_block);
    }
    CHECK(expected == 12 && batches.ended_by() == ipc::errc::disconnected);
    auto none = server.receiving().batches(0, 1ms);
    auto at = none.begin();
    CHECK(at == none.end() && none.end() == at && !(none.end() != at) && at->end() == at->begin());
    at++;
    CHECK(at == none.end());
}

void batches_are_read_where_they_are() {
    auto [listener, server, client] = make_pair();
    const auto large = pattern(1 << 20);
    NEED(client.try_send("small"));
    NEED(client.try_send(large));
    NEED(client.try_send_with_files("with a file", 0));
    NEED(client.try_send("last"));
    std::vector<std::string> seen;
    std::size_t files = 0;
    while (seen.size() < 4) {
        auto batch = NEED(server.try_receive_batch(0, 10s));
        std::vector<ipc::message> kept;
        for (ipc::message message : batch) {
            if (message.file_count() > 0) { files += NEED(message.try_take_files()).size(); }
            seen.emplace_back(message.text());
            kept.push_back(std::move(message));
        }
        CHECK(batch.ended_by() == ipc::errc::would_block && batch.begin() == batch.end() && !kept.empty());
        // All of them are still there.
        for (std::size_t at = 0; at < kept.size(); ++at) { CHECK(kept[at].text() == seen[seen.size() - kept.size() + at]); }
        CHECK(std::move(kept[0]).try_hold().code() == ipc::errc::busy);
    }
    CHECK(files == 1 && seen[0] == "small" && same(seen[1], large) && seen[2] == "with a file" && seen[3] == "last");
    CHECK(server.try_receive_batch(4, ipc::no_wait).error().is_timeout());
    // Some of them are asked for in a second loop, some never.
    for (int number = 0; number < 100; ++number) { NEED(client.try_send_value(number)); }
    auto batch = NEED(server.try_receive_batch(50, 10s));
    auto at = batch.begin();
    CHECK(NEED((*at).try_value<int>()) == 0 && at != batch.end() && batch.end() != at);
    at++;
    CHECK(NEED((*batch.begin()).try_value<int>()) == 2);
    CHECK(NEED(server.try_receive_value<int>()) == 3);
}

void a_batch_that_did_not_open_cancels_nothing() {
    auto [listener, server, client] = make_pair();
    auto idle = client.batch();
    auto lent = NEED(client.try_lend(5));
    CHECK(idle.try_push("x").code() == ipc::errc::busy);
    { const auto ended = std::move(idle); }
    std::memcpy(lent.data(), "hello", 5);
    NEED(lent.try_commit());
    CHECK(NEED(server.try_receive(10s)).text() == "hello");
}

void what_is_written_in_place_is_sent_or_given_up() {
    auto [listener, server, client] = make_pair();
    auto reserved = NEED(client.try_reserve(4));
    CHECK(reserved && reserved.size() == 4 && reserved.end() - reserved.begin() == 4);
    CHECK(client.try_send("not now").code() == ipc::errc::busy);
    std::memcpy(reserved.data(), "abcd", 4);
    reserved[1] = std::byte{'B'};
    auto heir = std::move(reserved);
    CHECK(!reserved && reserved.try_commit().code() == ipc::errc::busy);
    NEED(heir.try_commit());
    CHECK(NEED(server.try_receive(10s)).text() == "aBcd");
    { const auto dropped = NEED(client.try_reserve(4)); }
    {
        auto first = NEED(client.try_reserve(4));
        first.cancel();
        first = NEED(client.try_reserve(8));
        CHECK(first.size() == 8);
    }
    CHECK(client.try_reserve(std::size_t{1} << 30).code() == ipc::errc::too_large);

    auto lent = NEED(client.try_lend_array<sample>(1000, 10s));
    CHECK(lent && lent.size() == 1000 && reinterpret_cast<std::uintptr_t>(lent.data()) % 128 == 0);
    std::uint64_t number = 0;
    for (sample& one : lent) { one = sample{number++, 0.5}; }
    lent[2].value = 7;
    CHECK(lent.try_commit(1001).code() == ipc::errc::invalid && lent); // And it stays open.
    auto lent_heir = std::move(lent);
    CHECK(!lent && lent.try_commit().code() == ipc::errc::busy);
    CHECK(std::move(lent).try_detach().code() == ipc::errc::busy);
    NEED(lent_heir.try_commit(900));
    auto kept = NEED(NEED(server.try_receive(10s)).try_hold());
    { const auto dropped = NEED(client.try_lend(1 << 20)); }
    auto again = NEED(client.try_lend(10));
    again.cancel();
    again = NEED(client.try_lend(20));
    NEED(std::move(again).try_commit());
    CHECK(NEED(server.try_receive(10s)).size() == 20);
    CHECK(client.try_lend_array<sample>((std::size_t{1} << 60) + 1).code() == ipc::errc::too_large);

    auto detached = NEED(NEED(client.try_lend_array<sample>(3)).try_detach());
    NEED(client.try_send("meanwhile"));
    CHECK(detached && detached.size() == 3 && detached.native_handle() != nullptr && detached.end() - detached.begin() == 3);
    detached[0] = sample{11, 0};
    CHECK(server.try_send_loan(std::move(detached), 3).code() == ipc::errc::no_lane && detached);
    CHECK(client.try_send_loan(std::move(detached), 4).code() == ipc::errc::invalid && detached);
    auto loan_heir = std::move(detached);
    CHECK(!detached && loan_heir.data()->number == 11);
    NEED(client.try_send_loan(std::move(loan_heir), 1, 10s));
    CHECK(!loan_heir);
    CHECK(client.try_send_loan(std::move(loan_heir), 1).code() == ipc::errc::invalid); // Sent before.
    CHECK(NEED(server.try_receive(10s)).text() == "meanwhile");
    CHECK(NEED(server.try_receive_value<sample>(10s)).number == 11);
    auto outlives = NEED(NEED(client.try_lend(64)).try_detach());
    outlives = NEED(NEED(client.try_lend(32)).try_detach());
    CHECK(outlives.size() == 32);
    client.close();
    server.close();
    outlives[31] = std::byte{1};
    outlives.drop();
    CHECK(!outlives);
    // Held, it outlives everything, on any thread.
    std::thread([kept = std::move(kept)] {
        const auto values = NEED(kept.try_values<sample>());
        CHECK(values.size() == 900 && values[2] == (sample{2, 7}) && values[899].number == 899);
    }).join();
}

void held_messages_stay() {
    auto [listener, server, client] = make_pair();
    NEED(client.try_send("first"));
    NEED(client.try_send("second"));
    auto message = NEED(server.try_receive(10s));
    auto kept = NEED(std::move(message).try_hold());
    CHECK(std::move(message).try_hold().code() == ipc::errc::busy); // NOLINT: it is used up.
    CHECK(NEED(server.try_receive(10s)).text() == "second" && kept.text() == "first");
    auto heir = std::move(kept);
    CHECK(heir.text() == "first" && kept.empty() && heir.native_handle() != nullptr && kept.native_handle() == nullptr);
    kept = std::move(heir);
    CHECK(kept.text() == "first");
    kept.drop();
    CHECK(kept.empty() && kept.try_take_files().code() == ipc::errc::invalid);
}

void memory_is_given_back_at_the_end() {
    auto [listener, server, client] = make_pair();
    const auto blocks = [sender = client.sending()] {
        NEED(sender.try_trim(0s)); // Those that came back are counted until somebody looks for them.
        return NEED(sender.try_status()).arena_blocks;
    };
    const auto before = blocks();
    {
        auto lent = NEED(NEED(client.try_lend(1 << 20)).try_detach());
        CHECK(blocks() == before + 1);
    }
    CHECK(blocks() == before);
    NEED(NEED(client.try_lend(1 << 20)).try_commit());
    {
        const auto kept = NEED(NEED(server.try_receive(10s)).try_hold());
        NEED(server.try_release());
        CHECK(blocks() == before + 1);
    }
    CHECK(blocks() == before);
    NEED(NEED(client.try_lend(1 << 20)).try_commit());
    NEED(server.try_receive(10s));
    CHECK(blocks() == before + 1); // It is being read until the half does something else.
    NEED(server.try_release());
    CHECK(blocks() == before);
}

void files_travel_beside_messages() {
    auto [listener, server, client] = make_pair();
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0);
    const ipc::unique_fd reading(ends[0]), writing(ends[1]);
    NEED(client.try_send_with_files("pipe", writing.get()));
    {
        auto message = NEED(server.try_receive(10s));
        CHECK(message.file_count() == 1);
        auto files = NEED(message.try_take_files());
        CHECK(files.size() == 1 && !files.empty() && files[0] != writing.get() && *files.begin() == files.data()[0]);
        auto heir = std::move(files);
        CHECK(files.empty() && heir.end() - heir.begin() == 1);
        const auto file = heir.take(0);
        CHECK(heir[0] == -1 && !heir.take(0) && !heir.take(1));
        CHECK(::write(file.get(), "x", 1) == 1 && becomes_readable(reading.get(), 1000));
    }
    NEED(client.try_send_with_files("two", {reading.get(), writing.get()}, 10s));
    int first = -1;
    {
        auto kept = NEED(NEED(server.try_receive(10s)).try_hold());
        CHECK(kept.file_count() == 2);
        ipc::file_list files;
        files = NEED(kept.try_take_files());
        CHECK(files.size() == 2 && kept.file_count() == 0 && NEED(kept.try_take_files()).empty());
        first = files[0];
        CHECK(is_open(first));
    }
    CHECK(!is_open(first)); // Those that nobody took are closed.
    NEED(client.try_send("before"));
    NEED(client.try_send_with_files("many", std::vector<int>(5, reading.get())));
    NEED(client.try_send("after"));
    std::size_t files = 0;
    std::size_t count = 0;
    ipc::received_batch<8> batch;
    while (count < 3) {
        NEED(server.try_receive_many(batch, 10s));
        count += batch.size();
        files += NEED(batch.try_take_files()).size();
    }
    CHECK(files == 5);
    const std::vector<int> too_many(64, reading.get());
    CHECK(client.try_send_with_files("x", too_many).code() == ipc::errc::too_many_files);
    CHECK(client.try_send_with_files("x", -1).code() == ipc::errc::invalid);
}

void event_loops_sleep_on_descriptors() {
    auto [listener, server, client] = make_pair(ipc::options().rings(4096, 4096));
    CHECK(listener.fd() >= 0 && !becomes_readable(listener.fd(), 0));
    const auto receiver = server.receiving();
    CHECK(receiver.fd() >= 0 && NEED(receiver.try_arm()) && !becomes_readable(receiver.fd(), 0));
    NEED(client.try_send("wake up"));
    CHECK(becomes_readable(receiver.fd(), 10000));
    CHECK(NEED(receiver.try_receive(ipc::no_wait)).text() == "wake up");
    const auto sender = client.sending();
    CHECK(!NEED(sender.try_arm())); // There is room.
    const auto message = pattern(500);
    while (sender.try_send(message, ipc::no_wait)) {}
    CHECK(sender.try_send(message, 1ms).code() == ipc::errc::timed_out);
    CHECK(sender.fd() >= 0 && NEED(sender.try_arm()) && !becomes_readable(sender.fd(), 0));
    CHECK(!NEED(receiver.try_arm())); // There is something.
    while (receiver.try_receive(ipc::no_wait)) {}
    CHECK(becomes_readable(sender.fd(), 10000));
    NEED(sender.try_send(message, ipc::no_wait));
    NEED(client.try_close_sending());
    CHECK(sender.fd() == -1 && receiver.fd() >= 0);
}

void halves_are_for_two_threads() {
    auto [listener, server, client] = make_pair();
    constexpr std::uint64_t messages = 20000;
    const auto send_all = [](ipc::sender sender) {
        for (std::uint64_t number = 0; number < messages; ++number) { NEED(sender.try_send_value(number)); }
    };
    const auto receive_all = [](ipc::receiver receiver) {
        for (std::uint64_t number = 0; number < messages; ++number) {
            if (NEED(receiver.try_receive_value<std::uint64_t>(30s)) != number) { give_up("out of order", __LINE__); }
        }
    };
    std::thread threads[] = {std::thread(send_all, client.sending()), std::thread(receive_all, client.receiving()),
                             std::thread(send_all, server.sending()), std::thread(receive_all, server.receiving())};
    for (auto& thread : threads) { thread.join(); }
    CHECK(NEED(client.sending().try_status()).sent == messages);
}

void connections_tell_about_themselves() {
    auto [listener, server, client] = make_pair();
    CHECK(listener && listener.native_handle() != nullptr && listener.path().substr(0, directory.size()) == directory);
    CHECK(ipc::try_listen(std::string(listener.path())).code() == ipc::errc::address_in_use);
    const auto status = NEED(listener.try_status());
    CHECK(status.connections == 1 && status.refused == 0 && status.why_refused() == ipc::refusal::none);
    CHECK(NEED(client.try_peer()).pid == ::getpid() && NEED(server.try_peer()).uid == ::geteuid());
    NEED(client.try_send("12345678"));
    const auto sender = client.sending();
    const auto sent = NEED(sender.try_status());
    CHECK(sent.sent == 1 && sent.consumed == 0 && sent.ring_used > 0 && sent.max_reservation < sent.ring_capacity);
    const auto received = NEED(server.receiving().try_status());
    CHECK(received.waiting == 1 && received.received == 0 && received.ring_capacity == sent.ring_capacity);
    NEED(sender.try_check_peer());
    NEED(sender.try_flush());
    CHECK(NEED(sender.try_undelivered()) == 1);
    std::string seen;
    CHECK(NEED(sender.try_undelivered([&](ipc::bytes_view bytes) { seen += bytes.text(); })) == 1 && seen == "12345678");
    CHECK(NEED(sender.try_trim(1h)) == 0);
    NEED(sender.try_set_route(ipc::route::only(ipc::lane::file)));
    NEED(sender.try_send("in a file"));
    NEED(sender.try_set_route(ipc::route::only(ipc::lane::arena)));
    NEED(sender.try_send("in the arena"));
    NEED(sender.try_set_route(ipc::route::threshold(77)));
    char text[200];
    const std::size_t len = NEED(sender.try_route_text(text));
    CHECK(len == std::strlen(text) && std::strstr(text, "77") != nullptr);
    char few[4];
    CHECK(NEED(sender.try_route_text(few)) == len && std::strlen(few) == 3);
    NEED(sender.try_set_route(ipc::route::by_cost()));
    CHECK(NEED(server.try_receive()).text() == "12345678");
    {
        const auto message = NEED(server.try_receive(10s));
        CHECK(message.text() == "in a file" && message.lane() == ipc::lane::file && message.is_sealed());
        CHECK(server.receiving().try_status().code() == ipc::errc::busy);
        CHECK(server.try_set_wait(ipc::wait_strategy::busy).code() == ipc::errc::busy);
    }
    CHECK(NEED(server.try_receive(10s)).lane() == ipc::lane::arena);
    NEED(server.try_release());
    NEED(server.try_set_wait(ipc::wait_strategy::adaptive, 10us));

    ipc::connection taken(client.release_handle());
    CHECK(!client && taken && taken.native_handle() == sender.native_handle());
    client = std::move(taken);
    NEED(client.try_close_receiving());
    CHECK(client.try_receive(ipc::no_wait).code() == ipc::errc::closed && server.receiving().try_arm().has_value());
    const ipc::connection none;
    CHECK(!none && none.try_send("x").code() == ipc::errc::invalid && none.try_peer().code() == ipc::errc::invalid);
    CHECK(none.sending().fd() == -1 && none.receiving().fd() == -1);
    ipc::listener moved = std::move(listener);
    CHECK(!listener && listener.fd() == -1 && listener.path().empty());
    CHECK(listener.try_accept(ipc::no_wait).code() == ipc::errc::invalid);
    CHECK(listener.try_status().code() == ipc::errc::invalid);
    ipc::listener raw(nullptr);
    raw = std::move(moved);
    const std::string path(raw.path());
    raw.close();
    CHECK(ipc::try_connect(path).code() == ipc::errc::not_found);
}

void every_failure_of_empty_handles_is_a_result() {
    const ipc::sender sender(nullptr);
    CHECK(!sender.try_status() && !sender.try_arm() && !sender.try_set_route(ipc::route::by_cost()) && !sender.try_flush());
    char text[4];
    CHECK(!sender.try_route_text(text) && !sender.try_trim(1s) && !sender.try_check_peer() && !sender.try_undelivered());
    CHECK(!sender.try_undelivered([](ipc::bytes_view) {}) && !sender.try_reserve(1) && !sender.try_lend(1));
    CHECK(!sender.try_send_many({"x"}) && !sender.try_send_vectored({"x"}) && !sender.batch().try_push("x"));
    const ipc::receiver receiver(nullptr);
    std::byte room[4];
    CHECK(!receiver.try_arm() && !receiver.try_status() && !receiver.try_receive_into(room) && !receiver.try_release());
}

void nothing_is_shared_in_mode_kernel() {
    auto [listener, server, client] = make_pair(ipc::options().mode(ipc::mode::kernel));
    auto lent = NEED(client.try_lend(9));
    CHECK(std::move(lent).try_detach().code() == ipc::errc::no_lane && lent); // And it stays open.
    std::memcpy(lent.data(), "in packet", 9);
    NEED(lent.try_commit());
    const auto message = NEED(server.try_receive(10s));
    CHECK(message.text() == "in packet" && message.lane() == ipc::lane::kernel);
    // Values that have to lie as these do are neither lent nor seen where they cannot.
    struct alignas(65536) wide {
        char bytes[65536];
    };
    CHECK(client.try_lend_array<wide>(4).code() == ipc::errc::no_lane);
    NEED(client.try_send(std::vector<std::byte>(sizeof(wide))));
    CHECK(NEED(server.try_receive(10s)).try_values<wide>().code() == ipc::errc::invalid);
    // Wherever such a message lies: a view of it is one of values that lie well, or a failure.
    const std::uint64_t number = 5;
    NEED(client.try_send_value(number));
    const auto other = NEED(server.try_receive(10s));
    CHECK(NEED(other.try_value<std::uint64_t>()) == 5);
    const auto values = other.try_values<std::uint64_t>();
    CHECK(values.has_value() == (reinterpret_cast<std::uintptr_t>(other.data()) % alignof(std::uint64_t) == 0));
    CHECK(values ? (*values)[0] == 5 : values.code() == ipc::errc::invalid);
}

void peers_are_admitted_by_a_function() {
    const std::string name = fresh_name();
    std::atomic<int> asked{0};
    ipc::listener listener;
    {
        // The options end before the listener does.
        ipc::options deciding;
        deciding.admit([&asked](const ipc::peer_identity& peer) {
            CHECK(peer.pid == ::getpid());
            return ++asked > 1;
        });
        listener = NEED(ipc::try_listen(name, deciding));
    }
    auto moved = std::move(listener);
    std::thread accepting([&] { NEED(moved.try_accept(10s)); });
    CHECK(ipc::try_connect(name).code() == ipc::errc::refused);
    NEED(ipc::try_connect(name));
    accepting.join();
    CHECK(asked == 2 && NEED(moved.try_status()).why_refused() == ipc::refusal::credentials);
    CHECK(NEED(moved.try_status()).refused == 1);
    std::thread again([&] { NEED(moved.try_accept(10s)); });
    const auto turned_away = ipc::try_connect(name, ipc::options().admit([](const ipc::peer_identity&) { return false; }));
    CHECK(turned_away.code() == ipc::errc::not_admitted);
#if IPC_HPP_EXCEPTIONS
    CHECK(ipc::try_connect(name, ipc::options().admit([](const ipc::peer_identity&) -> bool { throw 1; })).code() ==
          ipc::errc::not_admitted);
#endif
    NEED(ipc::try_connect(name));
    again.join();
}

void types_are_agreed_on() {
    const std::string name = fresh_name();
    const auto listener = NEED(ipc::try_listen(name, ipc::options().payload<sample>("sample")));
    std::thread accepting([&] { NEED(listener.try_accept(10s)); });
    CHECK(ipc::try_connect(name, ipc::options().payload<int>("sample")).code() == ipc::errc::refused);
    NEED(ipc::try_connect(name, ipc::options().payload("sample", sizeof(sample), alignof(sample))));
    accepting.join();
    CHECK(NEED(listener.try_status()).why_refused() == ipc::refusal::payload);
}

void the_log_says_what_results_do_not() {
    std::mutex lock;
    std::vector<std::string> lines;
    ipc::set_log(
        [&](ipc::log_level level, std::string_view text) {
            const std::lock_guard<std::mutex> guard(lock);
            CHECK(level == ipc::log_level::info || level == ipc::log_level::warning);
            lines.emplace_back(text);
#if IPC_HPP_EXCEPTIONS
            throw 1; // Which is lost.
#endif
        },
        ipc::log_level::info);
    const std::string name = fresh_name();
    NEED(ipc::try_listen(name));
    ipc::set_log(nullptr);
    const std::size_t said = lines.size();
    CHECK(said == 1 && lines[0].find(name) != std::string::npos);
    NEED(ipc::try_listen(name));
    CHECK(lines.size() == said);
    ipc::set_log([&](ipc::log_level, std::string_view) { lines.clear(); });
    NEED(ipc::try_listen(name));
    CHECK(lines.size() == said); // Warnings only.
    CHECK(!ipc::connection().try_send("x"));
    CHECK(lines.empty());
    ipc::set_log({});
}

void nothing_is_allocated_on_the_way() {
#if !defined(SANITIZED)
    auto [listener, server, client] = make_pair();
    const unsigned long before = allocations;
    for (int round = 0; round < 100; ++round) {
        NEED(client.try_send("hello"));
        NEED(client.try_send_vectored({"a", "b"}));
        NEED(client.try_send_many({"c", "d"}));
        auto lent = NEED(client.try_lend_array<int>(100));
        NEED(lent.try_commit());
        auto reserved = NEED(client.try_reserve(4));
        NEED(reserved.try_commit());
        NEED(client.try_send_with_files("file", 0));
        for (ipc::message message : server.messages(ipc::no_wait)) {
            if (message.file_count() > 0) { CHECK(NEED(message.try_take_files()).size() == 1); }
        }
        CHECK(server.try_receive(ipc::no_wait).error().is_timeout());
    }
    CHECK(allocations == before);
    ::operator delete(::operator new(1));
    CHECK(allocations == before + 1); // They are counted.
#endif
}

// Between two processes.

void a_process_echoes() {
    const std::string name = fresh_name();
    child echo("echo", name);
    auto connection = NEED(ipc::try_connect(name, ipc::options().wait_for_listener().timeout(20s)));
    CHECK(NEED(connection.try_peer()).pid != ::getpid());
    for (std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{5000}, std::size_t{70000},
                             std::size_t{3} << 20}) {
        const auto message = pattern(size);
        NEED(connection.try_send(message, 20s));
        CHECK(same(NEED(connection.try_receive(20s)), message));
    }
    auto lent = NEED(connection.try_lend_array<std::uint32_t>(1 << 18));
    for (std::size_t at = 0; at < lent.size(); ++at) { lent[at] = static_cast<std::uint32_t>(at); }
    NEED(lent.try_commit());
    {
        const auto message = NEED(connection.try_receive(20s));
        const auto values = NEED(message.try_values<std::uint32_t>());
        bool is_same = values.size() == std::size_t{1} << 18;
        for (std::size_t at = 0; at < values.size(); ++at) { is_same = is_same && values[at] == at; }
        CHECK(is_same);
    }
    NEED(connection.try_close_sending());
    CHECK(connection.try_receive(20s).code() == ipc::errc::disconnected);
    CHECK(echo.wait() == 0);
}

int echo(const std::string& name) {
    auto listener = NEED(ipc::try_listen(name));
    auto connection = NEED(listener.try_accept(20s));
    auto messages = connection.messages();
    for (ipc::message message : messages) { NEED(connection.try_send(message)); }
    CHECK(messages.ended_by() == ipc::errc::disconnected);
    return failures;
}

void what_a_killed_process_sent_arrives() {
    const std::string name = fresh_name();
    const auto listener = NEED(ipc::try_listen(name));
    child killed("killed", name);
    auto connection = NEED(listener.try_accept(20s));
    CHECK(killed.wait() == 128 + SIGKILL);
    int expected = 0;
    auto messages = connection.messages(20s);
    for (ipc::message message : messages) { CHECK(NEED(message.try_value<int>()) == expected++); }
    CHECK(expected == 3 && messages.ended_by() == ipc::errc::peer_died && messages.ended_by().is_disconnect());
}

int killed(const std::string& name) {
    auto connection = NEED(ipc::try_connect(name));
    for (int number = 0; number < 3; ++number) { NEED(connection.try_send_value(number)); }
    // It does not come back.
    ::raise(SIGKILL);
    return 1;
}

void a_forked_child_cannot_use_handles() {
    auto [listener, server, client] = make_pair();
    const ::pid_t id = ::fork();
    if (id == 0) {
        const bool is_refused = client.try_send("x").code() == ipc::errc::forked &&
                                server.try_receive(ipc::no_wait).code() == ipc::errc::forked;
        ::_exit(is_refused ? 0 : 1);
    }
    int status = -1;
    CHECK(::waitpid(id, &status, 0) == id && status == 0);
    NEED(client.try_send("still here"));
    CHECK(NEED(server.try_receive(10s)).text() == "still here");
}

int run_all() {
    const struct {
        const char* name;
        void (*run)();
    } tests[] = {
#define TEST(name) {#name, name}
        TEST(times_become_nanoseconds),
        TEST(codes_are_standard_ones),
        TEST(failures_carry_the_text_of_the_library),
        TEST(results_have_a_value_or_a_failure),
        TEST(bytes_are_of_texts_containers_and_arrays),
        TEST(files_are_closed_once),
        TEST(options_become_those_of_c),
        TEST(the_library_says_what_it_is_and_what_lanes_cost),
        TEST(messages_arrive_whole_and_in_order),
#if IPC_HPP_EXCEPTIONS
        TEST(throwing_forms_do_the_same),
#endif
        TEST(loops_end_with_the_connection),
        TEST(batches_come_together),
        TEST(batches_are_read_where_they_are),
        TEST(a_batch_that_did_not_open_cancels_nothing),
        TEST(what_is_written_in_place_is_sent_or_given_up),
        TEST(held_messages_stay),
        TEST(memory_is_given_back_at_the_end),
        TEST(files_travel_beside_messages),
        TEST(event_loops_sleep_on_descriptors),
        TEST(halves_are_for_two_threads),
        TEST(connections_tell_about_themselves),
        TEST(every_failure_of_empty_handles_is_a_result),
        TEST(nothing_is_shared_in_mode_kernel),
        TEST(peers_are_admitted_by_a_function),
        TEST(types_are_agreed_on),
        TEST(the_log_says_what_results_do_not),
        TEST(nothing_is_allocated_on_the_way),
        TEST(a_process_echoes),
        TEST(what_a_killed_process_sent_arrives),
        TEST(a_forked_child_cannot_use_handles),
#undef TEST
    };
    int failed = 0;
    for (const auto& test : tests) {
        const int before = failures;
        test.run();
        failed += failures != before;
        std::printf("%s %s\n", failures == before ? "ok  " : "FAIL", test.name);
        std::fflush(stdout);
    }
    std::printf("%zu tests, %d failed\n", std::size(tests), failed);
    return failed == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
    ::alarm(120); // Whatever hangs ends as a failure.
    if (argc == 3 && std::strcmp(argv[1], "echo") == 0) { return echo(argv[2]); }
    if (argc == 3 && std::strcmp(argv[1], "killed") == 0) { return killed(argv[2]); }
    const char* base = std::getenv("TMPDIR");
    directory = std::string(base != nullptr ? base : "/tmp") + "/ipc-hpp-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) { give_up("no directory for sockets", __LINE__); }
    const int code = run_all();
    if (::rmdir(directory.c_str()) != 0) {
        std::fprintf(stderr, "%s: something was left behind\n", directory.c_str());
        return 1;
    }
    return code;
}
