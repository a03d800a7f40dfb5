/// @file ipc.hpp
/// C++ over ipc.h: handles that end by themselves, and results that cannot be overlooked.
///
/// Promise: every call is one call of ipc.h with nothing allocated and nothing locked around it; no destructor throws; all of it works with
/// -fno-exceptions and -fno-rtti. Needs C++17; gives std::span from C++20 on, and turns into std::expected from C++23 on.
/// Refusal: what ipc.h does not check, this does not: one thread at a time uses a half, and views end before what they look at.
///
///     ipc::listener listener = ipc::listen("sensors");
///     ipc::connection client = listener.accept();
///     for (ipc::message message : client.messages()) { std::cout << message.text() << '\n'; }   // until the peer is gone
///
/// and on the other side:
///
///     ipc::connection server = ipc::connect("sensors");
///     server.send("hello");
///
/// Each operation has up to three forms:
///
/// - `try_send(bytes, timeout)` returns an ipc::result, which has a value or an ipc::failure with the code and the text. Without a timeout
///   given it waits without end. It throws nothing.
/// - `send(bytes)` waits without end, and throws ipc::error. It exists where exceptions do.
/// - `send(bytes, timeout)` says with `false` or an empty std::optional that the time ended first, and throws ipc::error for the rest.
///
/// Which results there are is said in ipc.h at the C function of the same name: ipc_send for try_send.
///
/// Units: bytes, and std::chrono durations. Threads: a connection has two halves, each for one thread at a time; the two threads
/// may be different, and run at once: give one connection.sending() and the other connection.receiving(). Loans that are detached, held
/// messages and files go to any thread, one at a time.
///
/// The peer may be hostile: bytes of a message that is not sealed may change while they are read. value() and copying are safe; what
/// looks at the bytes in place should read each once.

#ifndef IPC_HPP
#define IPC_HPP

#include "ipc.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <array>
#include <atomic>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif
#if defined(__cpp_lib_expected)
#include <expected>
#endif
#if defined(__cpp_exceptions)
#include <exception>
#include <stdexcept>
#endif

#include <unistd.h>

#if defined(__cpp_exceptions)
/// 1 where the forms that throw exist.
#define IPC_HPP_EXCEPTIONS 1
#else
#define IPC_HPP_EXCEPTIONS 0
#endif

namespace ipc {
// Types differ between standards (ipc::span): objects that were compiled for different ones do not link by mistake.
#if defined(__cpp_lib_span)
inline namespace with_std_span {
#else
inline namespace with_own_span {
#endif

/// @name Results
/// @{

/// What went wrong: the numbers of ipc_result, which never change.
enum class errc : std::int32_t {
    ok = IPC_OK,                               ///< It was done.
    would_block = IPC_WOULD_BLOCK,             ///< No message, or no room, now; the call was one that does not wait.
    timed_out = IPC_TIMED_OUT,                 ///< What the call waited for did not come in time.
    disconnected = IPC_DISCONNECTED,           ///< The peer has closed its side; all that it had sent was received.
    peer_died = IPC_PEER_DIED,                 ///< The peer vanished without closing; all that it had sent was received.
    violation = IPC_VIOLATION,                 ///< The peer wrote what it must not.
    too_large = IPC_TOO_LARGE,                 ///< The message is larger than this connection takes.
    too_short = IPC_TOO_SHORT,                 ///< The buffer is shorter than the message, which can be received again.
    no_memory = IPC_NO_MEMORY,                 ///< The system has no memory for it.
    too_many_files = IPC_TOO_MANY_FILES,       ///< More files than can be beside one message: 63.
    no_lane = IPC_NO_LANE,                     ///< This connection does not have the lane, or it does not take such a message.
    forked = IPC_FORKED,                       ///< The handle belongs to the parent of this process.
    system = IPC_SYSTEM,                       ///< The system failed; failure::system_code says how.
    invalid = IPC_INVALID,                     ///< An argument is out of the range that the text names.
    closed = IPC_CLOSED,                       ///< The handle, or that half of it, was closed by this process.
    busy = IPC_BUSY,                           ///< A batch, reservation or loan is open; or what the call asks for is not.
    not_found = IPC_NOT_FOUND,                 ///< Nobody listens under that name.
    address_in_use = IPC_ADDRESS_IN_USE,       ///< Somebody listens under that name already.
    bad_address = IPC_BAD_ADDRESS,             ///< The name cannot be one, or its directory cannot be trusted.
    refused = IPC_REFUSED,                     ///< The server refused the connection.
    not_admitted = IPC_NOT_ADMITTED,           ///< The server's user is not one that the options admit.
    defect = IPC_DEFECT,                       ///< A defect of the library.
};

/// What a code means, in a few words that are never freed. Any thread.
[[nodiscard]] inline const char* describe(errc code) noexcept { return ipc_strerror(static_cast<std::int32_t>(code)); }

/// The category of std::error_code for ipc::errc. Any thread, for good.
[[nodiscard]] inline const std::error_category& category() noexcept {
    class own final : public std::error_category {
      public:
        const char* name() const noexcept override { return "ipc"; }
        std::string message(int code) const override { return ipc_strerror(code); }
        std::error_condition default_error_condition(int code) const noexcept override {
            switch (static_cast<errc>(code)) {
            case errc::ok: return {};
            case errc::would_block: return std::errc::operation_would_block;
            case errc::timed_out: return std::errc::timed_out;
            case errc::disconnected: return std::errc::not_connected;
            case errc::peer_died: return std::errc::connection_reset;
            case errc::violation: return std::errc::protocol_error;
            case errc::too_large: return std::errc::message_size;
            case errc::too_short: return std::errc::no_buffer_space;
            case errc::no_memory: return std::errc::not_enough_memory;
            case errc::no_lane: return std::errc::operation_not_supported;
            case errc::forked: return std::errc::operation_not_permitted;
            case errc::too_many_files:
            case errc::invalid: return std::errc::invalid_argument;
            case errc::closed: return std::errc::bad_file_descriptor;
            case errc::busy: return std::errc::device_or_resource_busy;
            case errc::not_found: return std::errc::no_such_file_or_directory;
            case errc::address_in_use: return std::errc::address_in_use;
            case errc::bad_address: return std::errc::address_not_available;
            case errc::refused: return std::errc::connection_refused;
            case errc::not_admitted: return std::errc::permission_denied;
            case errc::defect: return std::errc::state_not_recoverable;
            case errc::system: break;
            }
            return {code, *this};
        }
    };
    static const own instance{};
    return instance;
}

/// A code as a std::error_code, which compares with ipc::errc and, where there is a counterpart, with std::errc.
[[nodiscard]] inline std::error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), category()}; }

/// Why a call failed: the code, the system's error number if it was the system, and the text with the numbers.
///
/// The text is copied where it matters, from one malloc; for errc::would_block and errc::timed_out, which loops meet all the time, nothing
/// is copied and the text is that of describe(). Copies and moves go to any thread.
class failure {
  public:
    /// Success: nothing is kept.
    failure() noexcept = default;

    /// What the call that just failed in this thread left behind: ipc_last_error and ipc_last_errno.
    [[gnu::cold]] explicit failure(ipc_result code) noexcept : code_(static_cast<errc>(code)) {
        if (code != IPC_OK && code != IPC_WOULD_BLOCK && code != IPC_TIMED_OUT) {
            errno_ = ipc_last_errno();
            text_ = copy_of(ipc_last_error());
        }
    }

    /// A failure with words of its own.
    [[gnu::cold]] failure(errc code, const char* words) noexcept : code_(code), text_(copy_of(words)) {}

    failure(const failure& other) noexcept
        : code_(other.code_), errno_(other.errno_), text_(other.text_ ? copy_of(other.text_) : nullptr) {}
    failure(failure&& other) noexcept
        : code_(other.code_), errno_(other.errno_), text_(std::exchange(other.text_, nullptr)) {}
    failure& operator=(failure other) noexcept {
        code_ = other.code_;
        errno_ = other.errno_;
        std::swap(text_, other.text_);
        return *this;
    }
    ~failure() {
        if (text_ != nullptr) { std::free(text_); }
    }

    [[nodiscard]] errc code() const noexcept { return code_; }
    /// The code as C has it.
    [[nodiscard]] ipc_result native_code() const noexcept { return static_cast<ipc_result>(code_); }
    /// The system's error number, of category std::system_category; 0 if it was not the system that failed.
    [[nodiscard]] std::error_code system_code() const noexcept { return {errno_, std::system_category()}; }
    /// What went wrong, with the numbers: what was asked for, what there is, what is allowed. Lives as long as this object.
    [[nodiscard]] const char* text() const noexcept { return text_ != nullptr ? text_ : describe(code_); }
    /// The call was one with a time limit, which ended first.
    [[nodiscard]] bool is_timeout() const noexcept { return code_ == errc::would_block || code_ == errc::timed_out; }
    /// Nothing will come from the peer any more, and all that it had sent was received.
    [[nodiscard]] bool is_disconnect() const noexcept { return code_ == errc::disconnected || code_ == errc::peer_died; }

    friend bool operator==(const failure& one, errc code) noexcept { return one.code_ == code; }
    friend bool operator!=(const failure& one, errc code) noexcept { return one.code_ != code; }

  private:
    /// Null if there is no memory for it: then describe() has to do.
    static char* copy_of(const char* text) noexcept {
        const std::size_t size = std::strlen(text) + 1;
        void* copy = std::malloc(size);
        return copy == nullptr ? nullptr : static_cast<char*>(std::memcpy(copy, text, size));
    }

    errc code_ = errc::ok;
    int errno_ = 0;
    char* text_ = nullptr; ///< Ours, from malloc, or null.
};

#if IPC_HPP_EXCEPTIONS
/// What the forms without `try_` throw. what() is the text with the numbers.
class error : public std::runtime_error {
  public:
    explicit error(const failure& why) : std::runtime_error(why.text()), why_(why) {}
    /// Compares with ipc::errc, and with std::errc.
    [[nodiscard]] std::error_code code() const noexcept { return make_error_code(why_.code()); }
    /// The whole of it.
    [[nodiscard]] const failure& why() const noexcept { return why_; }

  private:
    failure why_;
};
#endif

/// A value, or why there is none. As std::expected<T, ipc::failure>, which it turns into where there is one.
template <class T>
class [[nodiscard]] result {
  public:
    using value_type = T;
    using error_type = failure;

    result(T value) noexcept(std::is_nothrow_move_constructible_v<T>) : value_(std::move(value)) {}
    result(failure why) noexcept : why_(std::move(why)) {}

    [[nodiscard]] bool has_value() const noexcept { return value_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }

    /// The value, which must be there: ask first.
    [[nodiscard]] T& operator*() & noexcept { return *value_; }
    [[nodiscard]] const T& operator*() const& noexcept { return *value_; }
    [[nodiscard]] T&& operator*() && noexcept { return *std::move(value_); }
    [[nodiscard]] T* operator->() noexcept { return &*value_; }
    [[nodiscard]] const T* operator->() const noexcept { return &*value_; }

#if IPC_HPP_EXCEPTIONS
    /// The value. @throws ipc::error if there is none.
    [[nodiscard]] T& value() & { return check(), *value_; }
    [[nodiscard]] const T& value() const& { return check(), *value_; }
    [[nodiscard]] T&& value() && { return check(), *std::move(value_); }
#endif
    /// The value, or another one.
    template <class U>
    [[nodiscard]] T value_or(U&& other) && {
        return std::move(value_).value_or(std::forward<U>(other));
    }

    /// Why there is no value; errc::ok if there is one.
    [[nodiscard]] const failure& error() const& noexcept { return why_; }
    [[nodiscard]] failure&& error() && noexcept { return std::move(why_); }
    [[nodiscard]] errc code() const noexcept { return why_.code(); }
    /// What went wrong, with the numbers. Lives as long as this object.
    [[nodiscard]] const char* text() const noexcept { return why_.text(); }

#if defined(__cpp_lib_expected)
    operator std::expected<T, failure>() && {
        if (has_value()) { return std::expected<T, failure>(*std::move(value_)); }
        return std::unexpected<failure>(std::move(why_));
    }
#endif

  private:
#if IPC_HPP_EXCEPTIONS
    void check() const {
        if (!has_value()) { throw ipc::error(why_); }
    }
#endif

    std::optional<T> value_;
    failure why_;
};

/// Done, or why not.
template <>
class [[nodiscard]] result<void> {
  public:
    using value_type = void;
    using error_type = failure;

    result() noexcept = default;
    result(failure why) noexcept : why_(std::move(why)) {}

    [[nodiscard]] bool has_value() const noexcept { return why_.code() == errc::ok; }
    explicit operator bool() const noexcept { return has_value(); }
    void operator*() const noexcept {}
#if IPC_HPP_EXCEPTIONS
    /// @throws ipc::error if it was not done.
    void value() const {
        if (!has_value()) { throw ipc::error(why_); }
    }
#endif
    [[nodiscard]] const failure& error() const& noexcept { return why_; }
    [[nodiscard]] failure&& error() && noexcept { return std::move(why_); }
    [[nodiscard]] errc code() const noexcept { return why_.code(); }
    [[nodiscard]] const char* text() const noexcept { return why_.text(); }

#if defined(__cpp_lib_expected)
    operator std::expected<void, failure>() && {
        if (has_value()) { return {}; }
        return std::unexpected<failure>(std::move(why_));
    }
#endif

  private:
    failure why_;
};

/// @}

namespace detail {

[[nodiscard]] inline result<void> done(ipc_result code) noexcept {
    if (code == IPC_OK) { return {}; }
    return failure(code);
}

#if IPC_HPP_EXCEPTIONS
/// For forms with a timeout: nothing if that ended first.
template <class T>
[[nodiscard]] std::optional<T> in_time(result<T> got) {
    if (got.has_value()) { return *std::move(got); }
    if (got.error().is_timeout()) { return std::nullopt; }
    throw ipc::error(got.error());
}
[[nodiscard]] inline bool in_time(const result<void>& got) {
    if (got.has_value()) { return true; }
    if (got.error().is_timeout()) { return false; }
    throw ipc::error(got.error());
}
#endif

/// A duration in ns: rounded up; what is too long for the number is the longest there is; what is negative, or no number, is 0.
template <class Rep, class Period>
[[nodiscard]] constexpr std::int64_t nanoseconds_of(std::chrono::duration<Rep, Period> time) noexcept {
    using given = std::chrono::duration<Rep, Period>;
    using std::chrono::nanoseconds;
    if (!(time > given::zero())) { return 0; }
    if constexpr (std::chrono::treat_as_floating_point_v<Rep>) {
        const auto wide = std::chrono::duration<long double, std::nano>(time).count();
        if (wide >= 9.2e18L) { return std::numeric_limits<std::int64_t>::max(); }
        const auto whole = static_cast<std::int64_t>(wide);
        return static_cast<long double>(whole) < wide ? whole + 1 : whole;
    } else {
        // Of a finer unit every number fits.
        if constexpr (std::ratio_greater_v<Period, std::nano>) {
            if (time > std::chrono::duration_cast<given>(nanoseconds::max())) {
                return std::numeric_limits<std::int64_t>::max();
            }
        }
        return std::chrono::ceil<nanoseconds>(time).count();
    }
}

template <class Rep, class Period>
[[nodiscard]] constexpr std::uint64_t unsigned_nanoseconds_of(std::chrono::duration<Rep, Period> time) noexcept {
    return static_cast<std::uint64_t>(nanoseconds_of(time));
}

template <class C>
using element_of = std::remove_pointer_t<decltype(std::declval<C&>().data())>;

template <class C, class Self, class = void>
struct is_contiguous : std::false_type {};
/// Has data() and size(), and elements that are no more than their bytes.
template <class C, class Self>
struct is_contiguous<C, Self,
                     std::void_t<element_of<const C>, decltype(static_cast<std::size_t>(std::declval<const C&>().size()))>>
    : std::bool_constant<!std::is_same_v<C, Self> && std::is_object_v<element_of<const C>> &&
                         std::is_trivially_copyable_v<element_of<const C>>> {};

/// The characters that string literals are made of, whose last one is no part of the text.
template <class T>
inline constexpr bool is_character = std::is_same_v<std::remove_cv_t<T>, char>;

template <class T>
inline constexpr bool is_plain = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>;

} // namespace detail

/// @name Times
/// @{

/// How long a call waits: any std::chrono duration, or ipc::forever, or ipc::no_wait.
///
/// A duration is rounded up to ns; one that is too long for 64 bits of ns waits for 292 years; a negative one does not wait.
class timeout {
  public:
    template <class Rep, class Period>
    constexpr timeout(std::chrono::duration<Rep, Period> time) noexcept : ns_(detail::nanoseconds_of(time)) {}
    /// As ipc.h has it: 0 does not wait, a negative number waits without end.
    [[nodiscard]] static constexpr timeout from_native(std::int64_t ns) noexcept { return timeout(ns, 0); }
    /// From now until a moment of a clock.
    template <class Clock, class Duration>
    [[nodiscard]] static timeout until(std::chrono::time_point<Clock, Duration> moment) noexcept {
        return timeout(moment - Clock::now());
    }
    [[nodiscard]] constexpr std::int64_t native() const noexcept { return ns_; }

  private:
    constexpr timeout(std::int64_t ns, int) noexcept : ns_(ns) {}
    std::int64_t ns_;
};

/// Waits without end.
inline constexpr timeout forever = timeout::from_native(IPC_FOREVER);
/// Does not wait.
inline constexpr timeout no_wait = timeout::from_native(0);

/// @}
/// @name Bytes
/// @{

#if defined(__cpp_lib_span)
/// std::span, of any length.
template <class T>
using span = std::span<T>;
#else
/// What std::span does from C++20 on, as far as it is needed here. Owns nothing.
template <class T>
class span {
  public:
    using element_type = T;
    using value_type = std::remove_cv_t<T>;
    constexpr span() noexcept = default;
    constexpr span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class C, class = std::enable_if_t<std::is_convertible_v<detail::element_of<C> (*)[], T (*)[]>>>
    constexpr span(C& elements) noexcept : data_(elements.data()), size_(elements.size()) {}
    template <std::size_t N>
    constexpr span(T (&elements)[N]) noexcept : data_(elements), size_(N) {}
    [[nodiscard]] constexpr T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
    [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] constexpr T& operator[](std::size_t at) const noexcept { return data_[at]; }
    [[nodiscard]] constexpr T* begin() const noexcept { return data_; }
    [[nodiscard]] constexpr T* end() const noexcept { return data_ + size_; }

  private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};
#endif

/// Bytes that a call reads: a text, a container of plain values that lie one behind the other, or a pointer and a length. Owns nothing.
class bytes_view {
  public:
    constexpr bytes_view() noexcept = default;
    constexpr bytes_view(const void* data, std::size_t size) noexcept : slice_{data, size} {}
    /// A text that ends in a NUL, which is no part of it.
    bytes_view(const char* text) noexcept : slice_{text, std::strlen(text)} {}
    bytes_view(std::nullptr_t) = delete;
    /// A container or span of trivially copyable values: std::string, std::vector<float>, std::span<const std::byte>, ipc::message.
    template <class C, class = std::enable_if_t<detail::is_contiguous<C, bytes_view>::value>>
    constexpr bytes_view(const C& values) noexcept
        : slice_{values.data(), static_cast<std::size_t>(values.size()) * sizeof(detail::element_of<const C>)} {}
    /// An array of trivially copyable values.
    template <class T, std::size_t N, class = std::enable_if_t<std::is_trivially_copyable_v<T> && !detail::is_character<T>>>
    constexpr bytes_view(const T (&values)[N]) noexcept : slice_{values, N * sizeof(T)} {}

    [[nodiscard]] const std::byte* data() const noexcept { return static_cast<const std::byte*>(slice_.data); }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return slice_.len; }
    [[nodiscard]] constexpr bool empty() const noexcept { return slice_.len == 0; }
    [[nodiscard]] const std::byte* begin() const noexcept { return data(); }
    [[nodiscard]] const std::byte* end() const noexcept { return data() + slice_.len; }
    [[nodiscard]] std::byte operator[](std::size_t at) const noexcept { return data()[at]; }
    [[nodiscard]] std::string_view text() const noexcept { return {static_cast<const char*>(slice_.data), slice_.len}; }

  private:
    // The only field: rows of these are handed to C as rows of slices.
    ipc_slice slice_{nullptr, 0};
};
static_assert(std::is_standard_layout_v<bytes_view> && sizeof(bytes_view) == sizeof(ipc_slice) &&
              alignof(bytes_view) == alignof(ipc_slice));

/// Several T that a call reads: one, a list in braces, or a container of them. Owns nothing; lives as long as what it was made of, which for
/// an argument is the call.
template <class T>
class list_view {
  public:
    constexpr list_view(const T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    constexpr list_view(const T& one) noexcept : data_(&one), size_(1) {}
    constexpr list_view(std::initializer_list<T> all) noexcept : data_(nullptr), size_(all.size()) { data_ = all.begin(); }
    template <class C, class = std::enable_if_t<detail::is_contiguous<C, list_view>::value &&
                                                std::is_same_v<detail::element_of<const C>, const T>>>
    constexpr list_view(const C& all) noexcept : data_(all.data()), size_(all.size()) {}
    template <std::size_t N>
    constexpr list_view(const T (&all)[N]) noexcept : data_(all), size_(N) {}

    [[nodiscard]] constexpr const T* data() const noexcept { return data_; }
    [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }

  private:
    const T* data_;
    std::size_t size_;
};

/// Parts of a message, or messages.
using parts_view = list_view<bytes_view>;
/// Descriptors that a call sends copies of.
using fds_view = list_view<int>;

namespace detail {
inline const ipc_slice* slices(parts_view parts) noexcept { return reinterpret_cast<const ipc_slice*>(parts.data()); }
} // namespace detail

/// @}
/// @name Files
/// @{

/// A file descriptor that is closed at its end. Any thread, one at a time.
class unique_fd {
  public:
    constexpr unique_fd() noexcept = default;
    /// Takes over a descriptor; negative: none.
    explicit constexpr unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) { reset(std::exchange(other.fd_, -1)); }
        return *this;
    }
    ~unique_fd() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    /// Hands the descriptor out; it is the caller's then.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    /// Closes it, and takes over another one.
    void reset(int fd = -1) noexcept {
        const int old = std::exchange(fd_, fd);
        if (old >= 0) { ::close(old); }
    }

  private:
    int fd_ = -1;
};

/// Files that came beside a message, at most 63 of them; those that are not taken out are closed at the end. Allocates nothing.
class file_list {
  public:
    /// The most files that can be beside one message.
    static constexpr std::size_t most = 63;

    file_list() noexcept = default;
    file_list(file_list&& other) noexcept : fds_(other.fds_), count_(std::exchange(other.count_, 0)) {}
    file_list& operator=(file_list&& other) noexcept {
        if (this != &other) {
            clear();
            fds_ = other.fds_;
            count_ = std::exchange(other.count_, 0);
        }
        return *this;
    }
    ~file_list() { clear(); }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    /// A descriptor that stays the list's; -1 if it was taken.
    [[nodiscard]] int operator[](std::size_t at) const noexcept { return fds_[at]; }
    [[nodiscard]] const int* data() const noexcept { return fds_.data(); }
    [[nodiscard]] const int* begin() const noexcept { return fds_.data(); }
    [[nodiscard]] const int* end() const noexcept { return fds_.data() + count_; }
    /// A descriptor that is the caller's from here on; none if it was taken before, or there are not so many.
    [[nodiscard]] unique_fd take(std::size_t at) noexcept {
        return at < count_ ? unique_fd(std::exchange(fds_[at], -1)) : unique_fd();
    }
    /// Closes those that are left.
    void clear() noexcept {
        for (std::size_t at = 0; at < count_; ++at) { unique_fd closed(fds_[at]); }
        count_ = 0;
    }

  private:
    friend class message;
    friend class held;
    template <std::size_t N>
    friend class received_batch;

    /// Filled by one of C's functions: call(fds, capacity, count).
    template <class Call>
    [[nodiscard]] static result<file_list> filled(Call call) noexcept {
        file_list list;
        std::size_t count = 0;
        const ipc_result code = call(list.fds_.data(), list.fds_.size(), &count);
        if (code != IPC_OK) { return failure(code); }
        list.count_ = count;
        return list;
    }

    std::array<int, most> fds_; // NOLINT: the first count_ are set.
    std::size_t count_ = 0;
};

/// @}
/// @name What can be chosen and asked
/// @{

/// Which lanes a connection has: of what both sides want, what shares less. See ipc_mode.
enum class mode : std::uint32_t {
    standard = IPC_MODE_DEFAULT,  ///< In options: automatic.
    kernel = IPC_MODE_KERNEL,     ///< The socket alone; no memory is shared.
    hybrid = IPC_MODE_HYBRID,     ///< Small messages in packets of the socket, large ones in shared memory.
    shared = IPC_MODE_SHARED,     ///< Small messages in a shared ring, large ones in shared memory beside it.
    automatic = IPC_MODE_AUTO,    ///< All lanes, for each message the one that costs least.
};

/// How calls that may wait do so. See ipc_wait.
enum class wait_strategy : std::uint32_t {
    standard = IPC_WAIT_DEFAULT,   ///< In options: adaptive with 50 us.
    adaptive = IPC_WAIT_ADAPTIVE,  ///< Poll for up to a given time, less where that has not paid lately, then sleep.
    sleep = IPC_WAIT_SLEEP,        ///< Sleep at once.
    busy = IPC_WAIT_BUSY,          ///< Poll without end: lowest latency, a core fully used.
};

/// How a message travels. See ipc_lane.
enum class lane : std::uint32_t {
    kernel = IPC_LANE_KERNEL,      ///< In a packet of the socket.
    in_line = IPC_LANE_INLINE,     ///< In the ring.
    arena = IPC_LANE_ARENA,        ///< In a block of shared memory beside the ring.
    file = IPC_LANE_FILE,          ///< In a sealed file of its own.
};

/// Why a listener turned a client away. See ipc_refusal.
enum class refusal : std::uint32_t {
    none = IPC_REFUSAL_NONE,                ///< None was refused yet.
    version = IPC_REFUSAL_VERSION,          ///< It speaks no version of the layout that this library does.
    connections = IPC_REFUSAL_CONNECTIONS,  ///< There are as many connections as the options allow.
    memory = IPC_REFUSAL_MEMORY,            ///< Its memory would exceed what the options allow, or the system has.
    credentials = IPC_REFUSAL_CREDENTIALS,  ///< Its user is not admitted.
    payload = IPC_REFUSAL_PAYLOAD,          ///< Its messages are of another type.
    other = IPC_REFUSAL_OTHER,              ///< Its hello made no sense, or another reason.
};

/// How much a line of the log matters. See ipc_log_level.
enum class log_level : std::uint32_t {
    error = IPC_LOG_ERROR,      ///< A peer broke the protocol, or this library has a defect.
    warning = IPC_LOG_WARNING,  ///< A call failed in a way that programs seldom expect.
    info = IPC_LOG_INFO,        ///< Listeners and connections that come and go.
    debug = IPC_LOG_DEBUG,      ///< Every other call that failed, but those that found nothing in time.
};

/// Who measured costs. See ipc_calibration_origin.
enum class cost_origin : std::uint32_t {
    compiled_in = IPC_COSTS_DEFAULT,  ///< Nobody on this machine.
    quick = IPC_COSTS_QUICK,          ///< A process of this user, for 40 ms.
    full = IPC_COSTS_FULL,            ///< The command `ipc calibrate`.
};

/// Who the other side is: pid, uid, gid, and a pidfd that stays the connection's. See ipc_peer.
using peer_identity = ::ipc_peer;
/// What the sending half has done, and how much of what it has is used. See ipc_send_status.
using send_status = ::ipc_send_status;
/// What the receiving half has done, and how much of what it has is used. See ipc_recv_status.
using recv_status = ::ipc_recv_status;

/// What a listener has done so far. See ipc_listener_status.
struct listener_status : ::ipc_listener_status {
    /// Why the last client was turned away.
    [[nodiscard]] refusal why_refused() const noexcept { return static_cast<refusal>(last_refusal); }
};

/// What a message costs on a lane, from the call that sends it until the receiver has every byte. See ipc_cost.
struct lane_cost : ::ipc_cost {
    [[nodiscard]] cost_origin measured_by() const noexcept { return static_cast<cost_origin>(origin); }
    /// In ns, for a message of so many bytes: the formula of ipc_cost.
    [[nodiscard]] double of(std::uint64_t bytes) const noexcept {
        return bytes <= knee ? fixed_ns + per_byte_ns * static_cast<double>(bytes)
                             : fixed_beyond_ns + per_byte_beyond_ns * static_cast<double>(bytes - knee);
    }
};

/// What decides about lanes. See ipc_set_route.
class route {
  public:
    /// What each lane costs on this machine: how connections begin.
    [[nodiscard]] static constexpr route by_cost() noexcept { return {IPC_ROUTE_COSTS, 0}; }
    /// One lane for every message.
    [[nodiscard]] static constexpr route only(lane one) noexcept {
        return {IPC_ROUTE_LANE, static_cast<std::uint64_t>(one)};
    }
    /// Messages up to so many bytes in the queue, longer ones in shared memory.
    [[nodiscard]] static constexpr route threshold(std::uint64_t bytes) noexcept { return {IPC_ROUTE_THRESHOLD, bytes}; }

  private:
    template <class Self>
    friend class sending_calls;
    friend class sender;
    constexpr route(std::uint32_t kind, std::uint64_t value) noexcept : kind_(kind), value_(value) {}
    std::uint32_t kind_;
    std::uint64_t value_;
};

/// @}
/// @name Received messages
/// @{

/// A message that is read in place. Owns nothing: it is valid as long as what it came from says.
class message_view {
  public:
    message_view() noexcept = default;

    /// Null if it is empty.
    [[nodiscard]] const std::byte* data() const noexcept { return static_cast<const std::byte*>(raw_.data); }
    /// In bytes.
    [[nodiscard]] std::size_t size() const noexcept { return raw_.len; }
    [[nodiscard]] bool empty() const noexcept { return raw_.len == 0; }
    [[nodiscard]] span<const std::byte> bytes() const noexcept { return {data(), size()}; }
    [[nodiscard]] std::string_view text() const noexcept { return {static_cast<const char*>(raw_.data), raw_.len}; }
    /// How it came.
    [[nodiscard]] ipc::lane lane() const noexcept { return static_cast<ipc::lane>(raw_.lane); }
    /// Nobody can write its bytes any more. Those of others a hostile peer may still change: read each once, check, use.
    [[nodiscard]] bool is_sealed() const noexcept { return (raw_.flags & IPC_MESSAGE_SEALED) != 0; }
    /// How many files are beside it.
    [[nodiscard]] std::size_t file_count() const noexcept { return raw_.files; }
    [[nodiscard]] const ipc_message& native() const noexcept { return raw_; }

    /// A copy of the value that the message is. errc::invalid if it has another length than T.
    template <class T>
    [[nodiscard]] result<T> try_value() const noexcept {
        static_assert(detail::is_plain<T>, "a type that is no more than its bytes");
        if (size() != sizeof(T)) { return wrong_length(sizeof(T)); }
        alignas(T) std::array<std::byte, sizeof(T)> copy;
        std::memcpy(copy.data(), raw_.data, sizeof(T));
        return *std::launder(reinterpret_cast<const T*>(copy.data()));
    }

    /// The values that the message is, in place. errc::invalid if its length is no multiple of T's, or it does not lie as T has to
    /// (see ipc_message). What a peer sends that is not trusted may change meanwhile, unless is_sealed().
    template <class T>
    [[nodiscard]] result<span<const T>> try_values() const noexcept {
        static_assert(detail::is_plain<T>, "a type that is no more than its bytes");
        if (size() % sizeof(T) != 0) { return wrong_length(sizeof(T)); }
        if (reinterpret_cast<std::uintptr_t>(raw_.data) % alignof(T) != 0) {
            return failure(errc::invalid, "the message does not lie where such values may: copy it");
        }
        return span<const T>(static_cast<const T*>(raw_.data), size() / sizeof(T));
    }

#if IPC_HPP_EXCEPTIONS
    template <class T>
    [[nodiscard]] T value() const {
        return try_value<T>().value();
    }
    template <class T>
    [[nodiscard]] span<const T> values() const {
        return try_values<T>().value();
    }
#endif

  protected:
    explicit message_view(const ipc_message& raw) noexcept : raw_(raw) {}

    // The only field: rows of these are filled by C as rows of messages.
    ipc_message raw_{};

  private:
    [[gnu::cold]] failure wrong_length(std::size_t type) const noexcept {
        char text[96];
        (void)std::snprintf(text, sizeof text, "the message has %zu bytes; a value has %zu", size(), type);
        return failure(errc::invalid, text);
    }
};
static_assert(std::is_standard_layout_v<message_view> && sizeof(message_view) == sizeof(ipc_message) &&
              alignof(message_view) == alignof(ipc_message));

/// A message that was kept while others are received. Gives it back at its end. Any thread, one at a time; outlives its connection.
class held : public message_view {
  public:
    held(held&& other) noexcept : message_view(other), handle_(std::exchange(other.handle_, nullptr)) { other.raw_ = {}; }
    held& operator=(held&& other) noexcept {
        if (this != &other) {
            drop();
            raw_ = std::exchange(other.raw_, ipc_message{});
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~held() { drop(); }

    /// Gives it back now. Does nothing if it was given back or moved from.
    void drop() noexcept {
        if (handle_ != nullptr) { ipc_held_drop(std::exchange(handle_, nullptr)); }
        raw_ = {};
    }
    /// Takes the files beside it, which are the caller's then. Empty if they were taken before. See ipc_held_files.
    [[nodiscard]] result<file_list> try_take_files() noexcept {
        auto files = file_list::filled(
            [this](int* fds, std::size_t capacity, std::size_t* count) { return ipc_held_files(handle_, fds, capacity, count); });
        if (files.has_value()) { ipc_held_message(handle_, &raw_); }
        return files;
    }
#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] file_list take_files() { return try_take_files().value(); }
#endif
    [[nodiscard]] ipc_held* native_handle() const noexcept { return handle_; }

  private:
    friend class message;
    held(ipc_held* handle, const ipc_message& raw) noexcept : message_view(raw), handle_(handle) {}
    ipc_held* handle_;
};

/// The message that is being read. Valid until the next call of the receiving half that receives, arms, or releases: that call gives
/// its space back, whether this object lives or not; its end does nothing. Thread: the receiving half's.
class message : public message_view {
  public:
    message(message&& other) noexcept = default;
    message& operator=(message&& other) noexcept = default;
    message(const message&) = delete;
    message& operator=(const message&) = delete;

    /// Keeps it while others are received; where its bytes are changes. This object is used up. See ipc_hold.
    [[nodiscard]] result<held> try_hold() && noexcept {
        ipc_held* kept = nullptr;
        ipc_message moved{};
        const ipc_result code = ipc_hold(handle_, &kept, &moved);
        if (code != IPC_OK) { return failure(code); }
        raw_ = {};
        return held(kept, moved);
    }
    /// Takes the files beside it, which are the caller's then; those that are not taken are closed with it. See ipc_message_files.
    [[nodiscard]] result<file_list> try_take_files() noexcept {
        return file_list::filled(
            [this](int* fds, std::size_t capacity, std::size_t* count) { return ipc_message_files(handle_, fds, capacity, count); });
    }
#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] held hold() && { return std::move(*this).try_hold().value(); }
    [[nodiscard]] file_list take_files() { return try_take_files().value(); }
#endif

  private:
    template <class Self>
    friend class receiving_calls;
    friend class message_range;
    friend class incoming_batch;
    message(ipc_connection* handle, const ipc_message& raw) noexcept : message_view(raw), handle_(handle) {}
    ipc_connection* handle_;
};

/// Up to N messages that were received together. They are valid as one ipc::message is, and stay where they are when this is moved.
template <std::size_t N>
class received_batch {
    static_assert(N > 0);

  public:
    received_batch() noexcept = default;
    received_batch(received_batch&&) noexcept = default;
    received_batch& operator=(received_batch&&) noexcept = default;
    received_batch(const received_batch&) = delete;
    received_batch& operator=(const received_batch&) = delete;

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] const message_view& operator[](std::size_t at) const noexcept { return messages_[at]; }
    [[nodiscard]] const message_view& back() const noexcept { return messages_[count_ - 1]; }
    [[nodiscard]] const message_view* begin() const noexcept { return messages_.data(); }
    [[nodiscard]] const message_view* end() const noexcept { return messages_.data() + count_; }
    /// Takes the files beside the last message. See ipc_message_files.
    [[nodiscard]] result<file_list> try_take_files() noexcept {
        return file_list::filled(
            [this](int* fds, std::size_t capacity, std::size_t* count) { return ipc_message_files(handle_, fds, capacity, count); });
    }
#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] file_list take_files() { return try_take_files().value(); }
#endif

  private:
    template <class Self>
    friend class receiving_calls;

    [[nodiscard]] ipc_result fill(ipc_connection* handle, timeout wait) noexcept {
        handle_ = handle;
        return ipc_recv_many(handle, reinterpret_cast<ipc_message*>(messages_.data()), N, &count_, wait.native());
    }

    std::array<message_view, N> messages_;
    std::size_t count_ = 0;
    ipc_connection* handle_ = nullptr;
};

/// The end of ipc::message_range and ipc::batch_range.
struct end_of_messages {};

/// Messages as they come, for range-for: `for (ipc::message message : connection.messages())`. It ends when no more comes: at a disconnect,
/// at another failure, or at the end of the time that was given for each; ended_by() says which. Thread: the receiving half's.
class message_range {
  public:
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = message;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = message;

        iterator() noexcept = default;
        [[nodiscard]] message operator*() const noexcept { return message(range_->handle_, range_->raw_); }
        iterator& operator++() noexcept {
            range_->next();
            return *this;
        }
        void operator++(int) noexcept { range_->next(); }
        friend bool operator==(const iterator& one, end_of_messages) noexcept { return !one.is_there(); }
        friend bool operator!=(const iterator& one, end_of_messages) noexcept { return one.is_there(); }
        friend bool operator==(end_of_messages, const iterator& one) noexcept { return !one.is_there(); }
        friend bool operator!=(end_of_messages, const iterator& one) noexcept { return one.is_there(); }

      private:
        friend class message_range;
        explicit iterator(message_range* range) noexcept : range_(range) {}
        [[nodiscard]] bool is_there() const noexcept { return range_->is_there_; }
        message_range* range_ = nullptr;
    };

    message_range(ipc_connection* handle, timeout wait) noexcept : handle_(handle), wait_(wait) {}
    /// Receives the first one.
    [[nodiscard]] iterator begin() noexcept {
        next();
        return iterator(this);
    }
    [[nodiscard]] end_of_messages end() const noexcept { return {}; }
    /// Why the last loop ended; errc::ok if it did not reach its end.
    [[nodiscard]] const failure& ended_by() const noexcept { return ended_by_; }

  private:
    void next() noexcept {
        const ipc_result code = ipc_recv(handle_, &raw_, wait_.native());
        is_there_ = code == IPC_OK;
        if (!is_there_) { ended_by_ = failure(code); }
    }

    ipc_connection* handle_;
    timeout wait_;
    bool is_there_ = false;
    ipc_message raw_{};
    failure ended_by_;
};

/// The messages of a batch that is being read, for range-for, once: `for (ipc::message message : batch)`. All of them stay valid as one
/// ipc::message does, but none can be held, and files of one are to be taken before the next one is asked for. Thread: the receiving half's.
class incoming_batch {
  public:
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = message;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = message;

        iterator() noexcept = default;
        [[nodiscard]] message operator*() const noexcept { return message(batch_->handle_, batch_->raw_); }
        iterator& operator++() noexcept {
            batch_->next();
            return *this;
        }
        void operator++(int) noexcept { batch_->next(); }
        friend bool operator==(const iterator& one, end_of_messages) noexcept { return !one.is_there(); }
        friend bool operator!=(const iterator& one, end_of_messages) noexcept { return one.is_there(); }
        friend bool operator==(end_of_messages, const iterator& one) noexcept { return !one.is_there(); }
        friend bool operator!=(end_of_messages, const iterator& one) noexcept { return one.is_there(); }

      private:
        friend class incoming_batch;
        explicit iterator(incoming_batch* batch) noexcept : batch_(batch) {}
        [[nodiscard]] bool is_there() const noexcept { return batch_->code_ == IPC_OK; }
        incoming_batch* batch_ = nullptr;
    };

    incoming_batch(incoming_batch&&) noexcept = default;
    incoming_batch& operator=(incoming_batch&&) noexcept = default;
    incoming_batch(const incoming_batch&) = delete;
    incoming_batch& operator=(const incoming_batch&) = delete;

    /// Asks for the first one that was not asked for yet.
    [[nodiscard]] iterator begin() noexcept {
        next();
        return iterator(this);
    }
    [[nodiscard]] end_of_messages end() const noexcept { return {}; }
    /// What the last loop ended with: errc::would_block at the end of the batch; other codes come again with the next batch.
    [[nodiscard]] errc ended_by() const noexcept { return static_cast<errc>(code_); }

  private:
    template <class Self>
    friend class receiving_calls;
    friend class batch_range;
    explicit incoming_batch(ipc_connection* handle) noexcept : handle_(handle) {}
    void next() noexcept { code_ = ipc_recv_next(handle_, &raw_); }

    ipc_connection* handle_;
    ipc_result code_ = IPC_OK;
    ipc_message raw_{};
};

/// Batches of messages as they come, for range-for: `for (auto& batch : connection.batches())`. Each message costs no call; their space is
/// given back at once. Ends as ipc::message_range does. Thread: the receiving half's.
class batch_range {
  public:
    class iterator {
      public:
        using iterator_category = std::input_iterator_tag;
        using value_type = incoming_batch;
        using difference_type = std::ptrdiff_t;
        using pointer = incoming_batch*;
        using reference = incoming_batch&;

        iterator() noexcept = default;
        /// The batch, which the next step replaces.
        [[nodiscard]] incoming_batch& operator*() const noexcept { return range_->batch_; }
        [[nodiscard]] incoming_batch* operator->() const noexcept { return &range_->batch_; }
        iterator& operator++() noexcept {
            range_->next();
            return *this;
        }
        void operator++(int) noexcept { range_->next(); }
        friend bool operator==(const iterator& one, end_of_messages) noexcept { return !one.is_there(); }
        friend bool operator!=(const iterator& one, end_of_messages) noexcept { return one.is_there(); }
        friend bool operator==(end_of_messages, const iterator& one) noexcept { return !one.is_there(); }
        friend bool operator!=(end_of_messages, const iterator& one) noexcept { return one.is_there(); }

      private:
        friend class batch_range;
        explicit iterator(batch_range* range) noexcept : range_(range) {}
        [[nodiscard]] bool is_there() const noexcept { return range_->is_there_; }
        batch_range* range_ = nullptr;
    };

    batch_range(ipc_connection* handle, std::uint64_t limit, timeout wait) noexcept
        : batch_(handle), limit_(limit), wait_(wait) {}
    /// Waits for the first one.
    [[nodiscard]] iterator begin() noexcept {
        next();
        return iterator(this);
    }
    [[nodiscard]] end_of_messages end() const noexcept { return {}; }
    /// Why the last loop ended; errc::ok if it did not reach its end.
    [[nodiscard]] const failure& ended_by() const noexcept { return ended_by_; }

  private:
    void next() noexcept {
        const ipc_result code = ipc_recv_batch(batch_.handle_, limit_, wait_.native());
        is_there_ = code == IPC_OK;
        if (!is_there_) { ended_by_ = failure(code); }
    }

    incoming_batch batch_;
    std::uint64_t limit_;
    timeout wait_;
    bool is_there_ = false;
    failure ended_by_;
};

/// @}
/// @name Messages that are written in place
/// @{

/// A small message that is written in the ring. Given up at its end unless it was committed. Until then nothing else of the sending half
/// can be used. Thread: the sending half's; ends before the connection does.
class reservation {
  public:
    reservation(reservation&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), data_(other.data_), size_(other.size_) {}
    reservation& operator=(reservation&& other) noexcept {
        if (this != &other) {
            cancel();
            handle_ = std::exchange(other.handle_, nullptr);
            data_ = other.data_;
            size_ = other.size_;
        }
        return *this;
    }
    ~reservation() { cancel(); }

    /// Where to write, aligned to 8 bytes; the bytes are unspecified. A hostile peer may write there too.
    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    /// In bytes: the message will have so many.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::byte* begin() const noexcept { return data_; }
    [[nodiscard]] std::byte* end() const noexcept { return data_ + size_; }
    [[nodiscard]] std::byte& operator[](std::size_t at) const noexcept { return data_[at]; }
    /// It was neither committed nor given up.
    explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// Sends it. The memory is not the caller's any more, whatever is returned. errc::busy if it was committed before. See ipc_commit.
    [[nodiscard]] result<void> try_commit() noexcept {
        if (handle_ == nullptr) { return failure(errc::busy, "the reservation was committed or given up before"); }
        return detail::done(ipc_commit(std::exchange(handle_, nullptr), size_));
    }
#if IPC_HPP_EXCEPTIONS
    void commit() { try_commit().value(); }
#endif
    /// Gives it up. Does nothing if it was committed or given up before.
    void cancel() noexcept {
        if (handle_ != nullptr) { ipc_cancel(std::exchange(handle_, nullptr)); }
    }

  private:
    template <class Self>
    friend class sending_calls;
    reservation(ipc_connection* handle, void* data, std::size_t size) noexcept
        : handle_(handle), data_(static_cast<std::byte*>(data)), size_(size) {}
    ipc_connection* handle_;
    std::byte* data_;
    std::size_t size_;
};

/// Memory for a message of T that is detached from its connection. Given back at its end unless it was sent. Any thread, one at a time; may
/// outlive the connection.
template <class T>
class detached_array {
  public:
    detached_array(detached_array&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), data_(other.data_), size_(other.size_) {}
    detached_array& operator=(detached_array&& other) noexcept {
        if (this != &other) {
            drop();
            handle_ = std::exchange(other.handle_, nullptr);
            data_ = other.data_;
            size_ = other.size_;
        }
        return *this;
    }
    ~detached_array() { drop(); }

    [[nodiscard]] T* data() const noexcept { return data_; }
    /// How many T there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] T* begin() const noexcept { return data_; }
    [[nodiscard]] T* end() const noexcept { return data_ + size_; }
    [[nodiscard]] T& operator[](std::size_t at) const noexcept { return data_[at]; }
    /// It was neither sent nor given back.
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] ipc_loan* native_handle() const noexcept { return handle_; }
    /// Gives it back. Does nothing if it was sent or given back before.
    void drop() noexcept {
        if (handle_ != nullptr) { ipc_loan_drop(std::exchange(handle_, nullptr)); }
    }

  private:
    template <class Self>
    friend class sending_calls;
    template <class U>
    friend class loan_array;
    explicit detached_array(ipc_loan* handle) noexcept : handle_(handle) {
        std::size_t bytes = 0;
        data_ = static_cast<T*>(ipc_loan_data(handle, &bytes));
        size_ = bytes / sizeof(T);
    }
    ipc_loan* handle_;
    T* data_;
    std::size_t size_;
};

/// Memory for a message of T that is written where the receiver reads it. Given up at its end unless it was committed or detached. Until
/// then nothing else of the sending half can be used. Thread: the sending half's; ends before the connection does.
template <class T>
class loan_array {
    static_assert(detail::is_plain<T>, "a type that is no more than its bytes");

  public:
    loan_array(loan_array&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), data_(other.data_), size_(other.size_) {}
    loan_array& operator=(loan_array&& other) noexcept {
        if (this != &other) {
            cancel();
            handle_ = std::exchange(other.handle_, nullptr);
            data_ = other.data_;
            size_ = other.size_;
        }
        return *this;
    }
    ~loan_array() { cancel(); }

    /// Where to write; nobody else can write there. The values are unspecified.
    [[nodiscard]] T* data() const noexcept { return data_; }
    /// How many T there are.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] T* begin() const noexcept { return data_; }
    [[nodiscard]] T* end() const noexcept { return data_ + size_; }
    [[nodiscard]] T& operator[](std::size_t at) const noexcept { return data_[at]; }
    /// It was neither committed, detached nor given up.
    explicit operator bool() const noexcept { return handle_ != nullptr; }

    /// Sends the first `count` of them as one message; errc::invalid for more than there are, and then it stays open. Otherwise the memory
    /// is not the caller's any more, whatever is returned. See ipc_commit.
    [[nodiscard]] result<void> try_commit(std::size_t count) noexcept {
        if (handle_ == nullptr) { return failure(errc::busy, "the loan was committed, detached or given up before"); }
        if (count > size_) { return failure(errc::invalid, "more is to be sent than was lent"); }
        return detail::done(ipc_commit(std::exchange(handle_, nullptr), count * sizeof(T)));
    }
    /// Sends all of them.
    [[nodiscard]] result<void> try_commit() noexcept { return try_commit(size_); }

    /// Detaches it, so that other messages can be sent while it is written. This object is used up; with errc::no_lane, where its memory
    /// cannot be detached, it stays as it is. See ipc_loan_detach.
    [[nodiscard]] result<detached_array<T>> try_detach() && noexcept {
        if (handle_ == nullptr) { return failure(errc::busy, "the loan was committed, detached or given up before"); }
        ipc_loan* loan = nullptr;
        const ipc_result code = ipc_loan_detach(handle_, &loan);
        if (code != IPC_OK) { return failure(code); }
        handle_ = nullptr;
        return detached_array<T>(loan);
    }
#if IPC_HPP_EXCEPTIONS
    void commit(std::size_t count) { try_commit(count).value(); }
    void commit() { try_commit().value(); }
    [[nodiscard]] detached_array<T> detach() && { return std::move(*this).try_detach().value(); }
#endif
    /// Gives it up. Does nothing if it was committed, detached or given up before.
    void cancel() noexcept {
        if (handle_ != nullptr) { ipc_cancel(std::exchange(handle_, nullptr)); }
    }

  private:
    template <class Self>
    friend class sending_calls;
    loan_array(ipc_connection* handle, void* data, std::size_t size) noexcept
        : handle_(handle), data_(static_cast<T*>(data)), size_(size) {}
    ipc_connection* handle_;
    T* data_;
    std::size_t size_;
};

/// Memory for a message of bytes.
using loan = loan_array<std::byte>;
/// Memory for a message of bytes that is detached from its connection.
using detached_loan = detached_array<std::byte>;

/// Messages that are appended one by one and published together. What is not published is given up at its end. From the first push until it
/// is published nothing else of the sending half can be used. Thread: the sending half's; ends before the connection does.
class batch {
  public:
    batch(batch&& other) noexcept : handle_(other.handle_), is_open_(std::exchange(other.is_open_, false)) {}
    batch& operator=(batch&& other) noexcept {
        if (this != &other) {
            cancel();
            handle_ = other.handle_;
            is_open_ = std::exchange(other.is_open_, false);
        }
        return *this;
    }
    ~batch() { cancel(); }

    /// Appends a copy. If the ring has no room and the call waits for it, the peer's credit in messages has run out, or the message takes
    /// another lane, what the batch has so far is published first. On failure the message is not in the batch, and the batch stays open:
    /// after errc::would_block publish it before waiting. No call while the ring has room. See ipc_batch_add.
    [[nodiscard]] result<void> try_push(bytes_view bytes, timeout wait = forever) noexcept {
        const ipc_result code = ipc_batch_add(handle_, bytes.data(), bytes.size(), wait.native());
        if (code == IPC_OK) {
            is_open_ = true;
            return {};
        }
        // These come before a batch is opened; what is open then is not ours to give up.
        is_open_ = is_open_ || (code != IPC_BUSY && code != IPC_CLOSED && code != IPC_INVALID);
        return failure(code);
    }
    /// Publishes what was pushed with one store, and wakes the peer only if it sleeps. Afterwards the next push begins anew.
    [[nodiscard]] result<void> try_publish() noexcept {
        if (!is_open_) { return {}; }
        is_open_ = false;
        return detail::done(ipc_batch_publish(handle_));
    }
#if IPC_HPP_EXCEPTIONS
    void push(bytes_view bytes) { try_push(bytes).value(); }
    [[nodiscard]] bool push(bytes_view bytes, timeout wait) { return detail::in_time(try_push(bytes, wait)); }
    void publish() { try_publish().value(); }
#endif
    /// Gives up what was pushed and is not published.
    void cancel() noexcept {
        if (std::exchange(is_open_, false)) { ipc_cancel(handle_); }
    }

  private:
    template <class Self>
    friend class sending_calls;
    explicit batch(ipc_connection* handle) noexcept : handle_(handle) {}
    ipc_connection* handle_;
    /// Whether something of ours may be open.
    bool is_open_ = false;
};

/// @}
/// @name Connections
/// @{

/// What ipc::connection and ipc::sender have in common. Thread: the sending half's.
template <class Self>
class sending_calls {
  public:
    /// Sends a copy as one message, on the lane that costs least. On failure nothing was sent. See ipc_send.
    [[nodiscard]] result<void> try_send(bytes_view bytes, timeout wait = forever) const noexcept {
        return detail::done(ipc_send(handle(), bytes.data(), bytes.size(), wait.native()));
    }
    /// Sends the bytes of a value.
    template <class T>
    [[nodiscard]] result<void> try_send_value(const T& value, timeout wait = forever) const noexcept {
        static_assert(detail::is_plain<T>, "a type that is no more than its bytes");
        return try_send(bytes_view(&value, sizeof value), wait);
    }
    /// Sends the parts, one behind the other, as one message. See ipc_send_vectored.
    [[nodiscard]] result<void> try_send_vectored(parts_view parts, timeout wait = forever) const noexcept {
        return detail::done(ipc_send_vectored(handle(), detail::slices(parts), parts.size(), wait.native()));
    }
    /// Sends a copy with files beside it, of which the receiver gets descriptors of its own. See ipc_send_with_files.
    [[nodiscard]] result<void> try_send_with_files(bytes_view bytes, fds_view files, timeout wait = forever) const noexcept {
        return detail::done(
            ipc_send_with_files(handle(), bytes.data(), bytes.size(), files.data(), files.size(), wait.native()));
    }
    /// Sends messages, published together; the time is for each. sent, if not null: how many were, also on failure. See ipc_send_many.
    [[nodiscard]] result<void> try_send_many(parts_view messages, timeout wait = forever,
                                             std::size_t* sent = nullptr) const noexcept {
        return detail::done(ipc_send_many(handle(), detail::slices(messages), messages.size(), wait.native(), sent));
    }
    /// A small message to be written in the ring, at most send_status::max_reservation bytes. See ipc_reserve.
    [[nodiscard]] result<reservation> try_reserve(std::size_t size, timeout wait = forever) const noexcept {
        void* data = nullptr;
        const ipc_result code = ipc_reserve(handle(), size, wait.native(), &data);
        if (code != IPC_OK) { return failure(code); }
        return reservation(handle(), data, size);
    }
    /// Memory for a message of any length, aligned to 128 bytes (not in mode::kernel). See ipc_lend.
    [[nodiscard]] result<loan> try_lend(std::size_t size, timeout wait = forever) const noexcept {
        return try_lend_array<std::byte>(size, wait);
    }
    /// Memory for a message of `count` values. errc::no_lane if it would not lie as T has to: in mode::kernel, or
    /// where T's alignment is more than 128.
    template <class T>
    [[nodiscard]] result<loan_array<T>> try_lend_array(std::size_t count, timeout wait = forever) const noexcept {
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) {
            return failure(errc::too_large, "more bytes than a number can say");
        }
        void* data = nullptr;
        const ipc_result code = ipc_lend(handle(), count * sizeof(T), wait.native(), &data);
        if (code != IPC_OK) { return failure(code); }
        loan_array<T> lent(handle(), data, count);
        if (alignof(T) > 1 && reinterpret_cast<std::uintptr_t>(data) % alignof(T) != 0) {
            return failure(errc::no_lane, "what this connection lends does not lie where such values may: lend bytes");
        }
        return lent;
    }
    /// Sends the first `count` values of a detached loan on the connection that lent it. On failure the loan stays as it is. See
    /// ipc_loan_send. Thread: also the loan's.
    template <class T>
    [[nodiscard]] result<void> try_send_loan(detached_array<T>&& lent, std::size_t count,
                                             timeout wait = forever) const noexcept {
        if (count > lent.size_) { return failure(errc::invalid, "more is to be sent than was lent"); }
        const ipc_result code = ipc_loan_send(handle(), lent.handle_, count * sizeof(T), wait.native());
        if (code != IPC_OK) { return failure(code); }
        lent.handle_ = nullptr;
        return {};
    }
    /// Messages to be appended one by one and published together.
    [[nodiscard]] ipc::batch batch() const noexcept { return ipc::batch(handle()); }
    /// Wakes the peer if it sleeps and messages wait for it that options::coalesce put off. See ipc_flush.
    [[nodiscard]] result<void> try_flush() const noexcept { return detail::done(ipc_flush(handle())); }

#if IPC_HPP_EXCEPTIONS
    void send(bytes_view bytes) const { try_send(bytes).value(); }
    [[nodiscard]] bool send(bytes_view bytes, timeout wait) const { return detail::in_time(try_send(bytes, wait)); }
    template <class T>
    void send_value(const T& value) const {
        try_send_value(value).value();
    }
    template <class T>
    [[nodiscard]] bool send_value(const T& value, timeout wait) const {
        return detail::in_time(try_send_value(value, wait));
    }
    void send_vectored(parts_view parts) const { try_send_vectored(parts).value(); }
    [[nodiscard]] bool send_vectored(parts_view parts, timeout wait) const {
        return detail::in_time(try_send_vectored(parts, wait));
    }
    void send_with_files(bytes_view bytes, fds_view files) const { try_send_with_files(bytes, files).value(); }
    [[nodiscard]] bool send_with_files(bytes_view bytes, fds_view files, timeout wait) const {
        return detail::in_time(try_send_with_files(bytes, files, wait));
    }
    void send_many(parts_view messages) const { try_send_many(messages).value(); }
    /// How many were sent before the time ended.
    [[nodiscard]] std::size_t send_many(parts_view messages, timeout wait) const {
        std::size_t sent = 0;
        (void)detail::in_time(try_send_many(messages, wait, &sent));
        return sent;
    }
    [[nodiscard]] reservation reserve(std::size_t size) const { return try_reserve(size).value(); }
    [[nodiscard]] std::optional<reservation> reserve(std::size_t size, timeout wait) const {
        return detail::in_time(try_reserve(size, wait));
    }
    [[nodiscard]] loan lend(std::size_t size) const { return try_lend(size).value(); }
    [[nodiscard]] std::optional<loan> lend(std::size_t size, timeout wait) const {
        return detail::in_time(try_lend(size, wait));
    }
    template <class T>
    [[nodiscard]] loan_array<T> lend_array(std::size_t count) const {
        return try_lend_array<T>(count).value();
    }
    template <class T>
    [[nodiscard]] std::optional<loan_array<T>> lend_array(std::size_t count, timeout wait) const {
        return detail::in_time(try_lend_array<T>(count, wait));
    }
    template <class T>
    void send_loan(detached_array<T>&& lent, std::size_t count) const {
        try_send_loan(std::move(lent), count).value();
    }
    template <class T>
    [[nodiscard]] bool send_loan(detached_array<T>&& lent, std::size_t count, timeout wait) const {
        return detail::in_time(try_send_loan(std::move(lent), count, wait));
    }
    void flush() const { try_flush().value(); }
#endif

  protected:
    sending_calls() noexcept = default;

  private:
    ipc_connection* handle() const noexcept { return static_cast<const Self*>(this)->native_handle(); }
};

/// What ipc::connection and ipc::receiver have in common. Thread: the receiving half's.
template <class Self>
class receiving_calls {
  public:
    /// Waits for the next message, to be read in place. It stays valid until the next call here. See ipc_recv.
    [[nodiscard]] result<message> try_receive(timeout wait = forever) const noexcept {
        ipc_message raw;
        const ipc_result code = ipc_recv(handle(), &raw, wait.native());
        if (code != IPC_OK) { return failure(code); }
        return message(handle(), raw);
    }
    /// Waits for the next message and copies it; returns its length. errc::too_short leaves it the next one; needed, if not null, is then
    /// the length it has. A large one is copied out while its sender still copies it in. See ipc_recv_into.
    [[nodiscard]] result<std::size_t> try_receive_into(span<std::byte> buffer, timeout wait = forever,
                                                       std::size_t* needed = nullptr) const noexcept {
        std::size_t len = 0;
        const ipc_result code = ipc_recv_into(handle(), buffer.data(), buffer.size(), &len, wait.native());
        if (needed != nullptr) { *needed = len; }
        if (code != IPC_OK) { return failure(code); }
        return len;
    }
    /// Waits for the next message, and copies the value that it is. errc::invalid if it has another length; then it is used up.
    template <class T>
    [[nodiscard]] result<T> try_receive_value(timeout wait = forever) const noexcept {
        auto got = try_receive(wait);
        if (!got.has_value()) { return std::move(got).error(); }
        return got->template try_value<T>();
    }
    /// Waits for at least one message and fills the batch with those that are there. See ipc_recv_many.
    template <std::size_t N>
    [[nodiscard]] result<void> try_receive_many(received_batch<N>& into, timeout wait = forever) const noexcept {
        return detail::done(into.fill(handle(), wait));
    }
    /// Gives the space of what is being read back. To be called before a long wait for something else. See ipc_release.
    [[nodiscard]] result<void> try_release() const noexcept { return detail::done(ipc_release(handle())); }

    /// The messages that come, until no more does; wait: for each. For range-for.
    [[nodiscard]] message_range messages(timeout wait = forever) const noexcept { return {handle(), wait}; }
    /// The messages that come, in batches of at most `limit` (0: of all that are there), until no more does; wait: for each batch. For
    /// range-for.
    [[nodiscard]] batch_range batches(std::uint64_t limit = 0, timeout wait = forever) const noexcept {
        return {handle(), limit, wait};
    }
    /// Waits for at least one message and begins to read those that are there, at most `limit` of them. See ipc_recv_batch.
    [[nodiscard]] result<incoming_batch> try_receive_batch(std::uint64_t limit = 0, timeout wait = forever) const noexcept {
        const ipc_result code = ipc_recv_batch(handle(), limit, wait.native());
        if (code != IPC_OK) { return failure(code); }
        return incoming_batch(handle());
    }

#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] message receive() const { return try_receive().value(); }
    [[nodiscard]] std::optional<message> receive(timeout wait) const { return detail::in_time(try_receive(wait)); }
    [[nodiscard]] std::size_t receive_into(span<std::byte> buffer) const { return try_receive_into(buffer).value(); }
    [[nodiscard]] std::optional<std::size_t> receive_into(span<std::byte> buffer, timeout wait) const {
        return detail::in_time(try_receive_into(buffer, wait));
    }
    template <class T>
    [[nodiscard]] T receive_value() const {
        return try_receive_value<T>().value();
    }
    template <class T>
    [[nodiscard]] std::optional<T> receive_value(timeout wait) const {
        return detail::in_time(try_receive_value<T>(wait));
    }
    template <std::size_t N>
    void receive_many(received_batch<N>& into) const {
        try_receive_many(into).value();
    }
    template <std::size_t N>
    [[nodiscard]] bool receive_many(received_batch<N>& into, timeout wait) const {
        return detail::in_time(try_receive_many(into, wait));
    }
    [[nodiscard]] incoming_batch receive_batch() const { return try_receive_batch().value(); }
    [[nodiscard]] std::optional<incoming_batch> receive_batch(std::uint64_t limit, timeout wait) const {
        return detail::in_time(try_receive_batch(limit, wait));
    }
    void release() const { try_release().value(); }
#endif

  protected:
    receiving_calls() noexcept = default;

  private:
    ipc_connection* handle() const noexcept { return static_cast<const Self*>(this)->native_handle(); }
};

/// The sending half of a connection, which must outlive it. To be copied to the one thread that sends.
class sender : public sending_calls<sender> {
  public:
    /// Looks at a handle that is ended by somebody else.
    explicit sender(ipc_connection* handle) noexcept : handle_(handle) {}
    [[nodiscard]] ipc_connection* native_handle() const noexcept { return handle_; }

    /// The descriptor for poll and epoll: readable. It says something only between arm and the next call that sends. It stays the library's.
    /// -1 if the half is closed. See ipc_send_fd.
    [[nodiscard]] int fd() const noexcept { return ipc_send_fd(handle_); }
    /// Before each sleep on fd(), once a call with ipc::no_wait came to errc::would_block: true if it is to be slept, false if it is worth trying
    /// again now. See ipc_send_arm.
    [[nodiscard]] result<bool> try_arm() const noexcept {
        int armed = 0;
        const ipc_result code = ipc_send_arm(handle_, &armed);
        if (code != IPC_OK) { return failure(code); }
        return armed != 0;
    }
    /// See ipc_get_send_status. The time it takes grows with the messages in the ring.
    [[nodiscard]] result<send_status> try_status() const noexcept {
        send_status status{};
        status.size = sizeof status;
        const ipc_result code = ipc_get_send_status(handle_, &status);
        if (code != IPC_OK) { return failure(code); }
        return status;
    }
    /// Fixes how lanes are chosen. errc::no_lane if this connection does not have it. See ipc_set_route.
    [[nodiscard]] result<void> try_set_route(route how) const noexcept {
        return detail::done(ipc_set_route(handle_, how.kind_, how.value_));
    }
    /// How messages are routed at the moment, in words. Cut if it does not fit; ends in a NUL; returns the length of the whole. See
    /// ipc_route_text.
    [[nodiscard]] result<std::size_t> try_route_text(span<char> text) const noexcept {
        std::size_t len = 0;
        const ipc_result code = ipc_route_text(handle_, text.data(), text.size(), &len);
        if (code != IPC_OK) { return failure(code); }
        return len;
    }
    /// Gives memory back to the system that was not used for so long; returns the bytes. See ipc_trim.
    template <class Rep, class Period>
    [[nodiscard]] result<std::uint64_t> try_trim(std::chrono::duration<Rep, Period> idle) const noexcept {
        std::uint64_t given_back = 0;
        const ipc_result code = ipc_trim(handle_, detail::unsigned_nanoseconds_of(idle), &given_back);
        if (code != IPC_OK) { return failure(code); }
        return given_back;
    }
    /// Asks the kernel whether the peer is there; errc::disconnected if not. See ipc_check_peer.
    [[nodiscard]] result<void> try_check_peer() const noexcept { return detail::done(ipc_check_peer(handle_)); }
    /// Calls `call(ipc::bytes_view)` for each message that the peer has not consumed, oldest first; returns how many there are. The bytes are
    /// gone when it returns; it must not use this connection. What it throws comes out here, after which it is not called again. See
    /// ipc_undelivered.
    template <class Call>
    [[nodiscard]] result<std::size_t> try_undelivered(Call&& call) const {
        struct context {
            std::remove_reference_t<Call>* call;
#if IPC_HPP_EXCEPTIONS
            std::exception_ptr thrown;
#endif
            static void run(void* self, const void* data, std::size_t len) noexcept {
                auto& here = *static_cast<context*>(self);
#if IPC_HPP_EXCEPTIONS
                if (here.thrown) { return; }
                try {
                    (*here.call)(bytes_view(data, len));
                } catch (...) {
                    here.thrown = std::current_exception();
                }
#else
                (*here.call)(bytes_view(data, len));
#endif
            }
        };
        context here{};
        here.call = std::addressof(call);
        std::size_t count = 0;
        const ipc_result code = ipc_undelivered(handle_, &context::run, &here, &count);
#if IPC_HPP_EXCEPTIONS
        if (here.thrown) { std::rethrow_exception(here.thrown); }
#endif
        if (code != IPC_OK) { return failure(code); }
        return count;
    }
    /// How many messages the peer has not consumed.
    [[nodiscard]] result<std::size_t> try_undelivered() const noexcept {
        std::size_t count = 0;
        const ipc_result code = ipc_undelivered(handle_, nullptr, nullptr, &count);
        if (code != IPC_OK) { return failure(code); }
        return count;
    }

#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] bool arm() const { return try_arm().value(); }
    [[nodiscard]] send_status status() const { return try_status().value(); }
    void set_route(route how) const { try_set_route(how).value(); }
    /// How messages are routed at the moment, in words.
    [[nodiscard]] std::string route_text() const {
        std::string text(try_route_text(span<char>()).value(), '\0');
        // C writes an end behind the text, where std::string has its own.
        text.resize(try_route_text(span<char>(text.data(), text.size() + 1)).value());
        return text;
    }
    template <class Rep, class Period>
    std::uint64_t trim(std::chrono::duration<Rep, Period> idle) const {
        return try_trim(idle).value();
    }
    /// Whether the peer is there.
    [[nodiscard]] bool check_peer() const {
        const auto there = try_check_peer();
        if (there.code() == errc::disconnected) { return false; }
        there.value();
        return true;
    }
    template <class Call>
    std::size_t undelivered(Call&& call) const {
        return try_undelivered(std::forward<Call>(call)).value();
    }
    [[nodiscard]] std::size_t undelivered() const { return try_undelivered().value(); }
#endif

  private:
    ipc_connection* handle_;
};

/// The receiving half of a connection, which must outlive it. To be copied to the one thread that receives.
class receiver : public receiving_calls<receiver> {
  public:
    /// Looks at a handle that is ended by somebody else.
    explicit receiver(ipc_connection* handle) noexcept : handle_(handle) {}
    [[nodiscard]] ipc_connection* native_handle() const noexcept { return handle_; }

    /// The descriptor for poll and epoll: readable. It says something only between arm and the next call that receives. It stays the
    /// library's. -1 if the half is closed. See ipc_recv_fd.
    [[nodiscard]] int fd() const noexcept { return ipc_recv_fd(handle_); }
    /// Before each sleep on fd(), once a call with ipc::no_wait came to errc::would_block: true if it is to be slept, false if it is worth trying
    /// again now. Gives back what was being read. See ipc_recv_arm.
    [[nodiscard]] result<bool> try_arm() const noexcept {
        int armed = 0;
        const ipc_result code = ipc_recv_arm(handle_, &armed);
        if (code != IPC_OK) { return failure(code); }
        return armed != 0;
    }
    /// errc::busy while a message is being read. See ipc_get_recv_status. The time it takes grows with the messages in the ring.
    [[nodiscard]] result<recv_status> try_status() const noexcept {
        recv_status status{};
        status.size = sizeof status;
        const ipc_result code = ipc_get_recv_status(handle_, &status);
        if (code != IPC_OK) { return failure(code); }
        return status;
    }
#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] bool arm() const { return try_arm().value(); }
    [[nodiscard]] recv_status status() const { return try_status().value(); }
#endif

  private:
    ipc_connection* handle_;
};

/// Both directions between two processes. Closed at its end: the peer gets what was sent before.
///
/// Threads: the calls that send for one at a time, those that receive for one at a time; sending() and receiving() are views for two
/// threads. To be ended, moved into and moved from while no call runs.
class connection : public sending_calls<connection>, public receiving_calls<connection> {
  public:
    /// None.
    connection() noexcept = default;
    /// Takes over a handle of C's.
    explicit connection(ipc_connection* handle) noexcept : handle_(handle) {}
    connection(connection&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    connection& operator=(connection&& other) noexcept {
        if (this != &other) {
            close();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~connection() { close(); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] ipc_connection* native_handle() const noexcept { return handle_; }
    /// Hands the handle out, which is the caller's to end with ipc_close.
    [[nodiscard]] ipc_connection* release_handle() noexcept { return std::exchange(handle_, nullptr); }

    [[nodiscard]] sender sending() const noexcept { return sender(handle_); }
    [[nodiscard]] receiver receiving() const noexcept { return receiver(handle_); }

    /// Closes both halves. Does nothing if there is none.
    void close() noexcept {
        if (handle_ != nullptr) { ipc_close(std::exchange(handle_, nullptr)); }
    }
    /// Closes one half, while no call of it runs; the other goes on. See ipc_shutdown.
    [[nodiscard]] result<void> try_close_sending() const noexcept { return detail::done(ipc_shutdown(handle_, IPC_SENDING)); }
    [[nodiscard]] result<void> try_close_receiving() const noexcept {
        return detail::done(ipc_shutdown(handle_, IPC_RECEIVING));
    }
    /// Who the peer is. Any thread. See ipc_get_peer.
    [[nodiscard]] result<peer_identity> try_peer() const noexcept {
        peer_identity peer{};
        const ipc_result code = ipc_get_peer(handle_, &peer);
        if (code != IPC_OK) { return failure(code); }
        return peer;
    }
    /// How calls of both halves wait, while none runs; spin: with wait_strategy::adaptive, for how long to poll at most, 0 for 50 us. See
    /// ipc_set_wait.
    [[nodiscard]] result<void> try_set_wait(wait_strategy how,
                                            std::chrono::nanoseconds spin = std::chrono::nanoseconds::zero()) const noexcept {
        return detail::done(ipc_set_wait(handle_, static_cast<std::uint32_t>(how), detail::unsigned_nanoseconds_of(spin)));
    }
#if IPC_HPP_EXCEPTIONS
    void close_sending() const { try_close_sending().value(); }
    void close_receiving() const { try_close_receiving().value(); }
    [[nodiscard]] peer_identity peer() const { return try_peer().value(); }
    void set_wait(wait_strategy how, std::chrono::nanoseconds spin = std::chrono::nanoseconds::zero()) const {
        try_set_wait(how, spin).value();
    }
#endif

  private:
    ipc_connection* handle_ = nullptr;
};

/// Decides whether a peer is admitted, while accept or connect runs; must not call this library. What it throws refuses the peer.
using admit_function = std::function<bool(const peer_identity&)>;

/// How to listen and to connect. What is not said has its default; see ipc_options for each, with units and ranges.
///
///     auto options = ipc::options().mode(ipc::mode::shared).rings(1 << 20, 1 << 20).timeout(std::chrono::seconds(2));
class options {
  public:
    options() noexcept { ipc_options_init(&raw_, sizeof raw_); }

    options& mode(ipc::mode value) noexcept { return raw_.mode = static_cast<std::uint32_t>(value), *this; }
    /// How calls wait; spin: with wait_strategy::adaptive, for how long to poll at most.
    options& wait(wait_strategy how, std::chrono::nanoseconds spin = std::chrono::nanoseconds::zero()) noexcept {
        raw_.wait = static_cast<std::uint32_t>(how);
        raw_.spin_ns = detail::unsigned_nanoseconds_of(spin);
        return *this;
    }
    /// To connect: how long to wait for the listener's answer. To listen: how long a client may be silent. ipc::no_wait is the default.
    options& timeout(ipc::timeout value) noexcept { return raw_.timeout_ns = value.native(), *this; }
    /// Bytes of the rings to the server and to the client: of a listener the usual and the largest; to connect, what is asked for.
    options& rings(std::uint64_t to_server, std::uint64_t to_client) noexcept {
        raw_.ring_to_server = to_server;
        raw_.ring_to_client = to_client;
        return *this;
    }
    /// Messages, bytes beside the ring, and bytes in one message, that the peer may have on the way to us; 0: the default.
    options& credit(std::uint64_t messages, std::uint64_t arena = 0, std::uint64_t message = 0) noexcept {
        raw_.credit_messages = messages;
        raw_.credit_arena = arena;
        raw_.credit_message = message;
        return *this;
    }
    /// Wakes a sleeping peer only when so many messages wait for it, or the first of them has waited for so long.
    options& coalesce(std::uint64_t messages, std::chrono::nanoseconds longest) noexcept {
        raw_.coalesce_messages = messages;
        raw_.coalesce_ns = detail::unsigned_nanoseconds_of(longest);
        return *this;
    }
    /// Listeners: bytes of all rings together. To connect: the largest segment to map.
    options& max_memory(std::uint64_t bytes) noexcept { return raw_.max_memory = bytes, *this; }
    /// Listeners: connections at a time.
    options& max_connections(std::uint64_t count) noexcept { return raw_.max_connections = count, *this; }
    /// Listeners: permission bits of the socket file.
    options& permissions(std::uint32_t bits) noexcept { return raw_.permissions = bits, *this; }
    options& lazy_memory(bool on = true) noexcept { return flag(IPC_LAZY_MEMORY, on); }
    options& lazy_pages(bool on = true) noexcept { return flag(IPC_LAZY_PAGES, on); }
    options& huge_pages(bool on = true) noexcept { return flag(IPC_HUGE_PAGES, on); }
    options& no_membarrier(bool on = true) noexcept { return flag(IPC_NO_MEMBARRIER, on); }
    options& no_arena(bool on = true) noexcept { return flag(IPC_NO_ARENA, on); }
    /// Admits every user who can open the socket file.
    options& anyone(bool on = true) noexcept { return flag(IPC_ANYONE, on); }
    /// To connect: waits for a listener that is not there yet, until the timeout.
    options& wait_for_listener(bool on = true) noexcept { return flag(IPC_WAIT_FOR_LISTENER, on); }
    /// Users whose processes are admitted; none: our own alone.
    options& users(std::vector<std::uint32_t> ids) noexcept { return users_ = std::move(ids), *this; }
    /// Decides who is admitted, instead of users. A listener keeps it as long as it lives.
    options& admit(admit_function decides) {
        admit_ = decides ? std::make_shared<admit_function>(std::move(decides)) : nullptr;
        return *this;
    }
    /// Name of the type that all messages have, its size and alignment in bytes. A peer with another one is refused.
    options& payload(std::string name, std::uint64_t size, std::uint64_t align) noexcept {
        payload_ = std::move(name);
        raw_.payload_size = size;
        raw_.payload_align = align;
        return *this;
    }
    /// The same, of a type.
    template <class T>
    options& payload(std::string name) noexcept {
        static_assert(detail::is_plain<T>, "a type that is no more than its bytes");
        return payload(std::move(name), sizeof(T), alignof(T));
    }

    /// As C has them. Valid while this object lives unchanged.
    [[nodiscard]] ipc_options native() const noexcept {
        ipc_options filled = raw_;
        if (!users_.empty()) {
            filled.users = users_.data();
            filled.user_count = users_.size();
        }
        if (!payload_.empty()) { filled.payload_name = payload_.c_str(); }
        if (admit_ != nullptr) {
            filled.admit = &asks;
            filled.admit_data = admit_.get();
        }
        return filled;
    }

  private:
    friend result<class listener> try_listen(const std::string& name, const options& how) noexcept;

    options& flag(std::uint32_t bit, bool on) noexcept {
        raw_.flags = on ? raw_.flags | bit : raw_.flags & ~bit;
        return *this;
    }
    static std::int32_t asks(void* decides, const ipc_peer* peer) noexcept {
#if IPC_HPP_EXCEPTIONS
        try {
            return (*static_cast<admit_function*>(decides))(*peer) ? 1 : 0;
        } catch (...) {
            return 0;
        }
#else
        return (*static_cast<admit_function*>(decides))(*peer) ? 1 : 0;
#endif
    }

    ipc_options raw_{};
    std::vector<std::uint32_t> users_;
    std::string payload_;
    std::shared_ptr<admit_function> admit_;
};

/// Listens under a name until its end; connections live on. One thread at a time.
class listener {
  public:
    /// None.
    listener() noexcept = default;
    /// Takes over a handle of C's.
    explicit listener(ipc_listener* handle) noexcept : handle_(handle) {}
    listener(listener&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), admit_(std::move(other.admit_)) {}
    listener& operator=(listener&& other) noexcept {
        if (this != &other) {
            close();
            handle_ = std::exchange(other.handle_, nullptr);
            admit_ = std::move(other.admit_);
        }
        return *this;
    }
    ~listener() { close(); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }
    [[nodiscard]] ipc_listener* native_handle() const noexcept { return handle_; }
    /// Takes the name away. Does nothing if there is none.
    void close() noexcept {
        if (handle_ != nullptr) { ipc_listener_close(std::exchange(handle_, nullptr)); }
    }

    /// The next client that completes the handshake and is admitted. See ipc_accept.
    [[nodiscard]] result<connection> try_accept(ipc::timeout wait = forever) const noexcept {
        ipc_connection* accepted = nullptr;
        const ipc_result code = ipc_accept(handle_, wait.native(), &accepted);
        if (code != IPC_OK) { return failure(code); }
        return connection(accepted);
    }
    /// The descriptor for poll and epoll: readable when accept may have something to do. It stays the library's. -1 if it is closed.
    [[nodiscard]] int fd() const noexcept { return ipc_listener_fd(handle_); }
    /// Where the socket file is, as long as the listener lives; empty if it is closed.
    [[nodiscard]] std::string_view path() const noexcept {
        const char* path = ipc_listener_path(handle_);
        return path == nullptr ? std::string_view() : std::string_view(path);
    }
    /// See ipc_listener_get_status.
    [[nodiscard]] result<listener_status> try_status() const noexcept {
        listener_status status{};
        status.size = sizeof(ipc_listener_status);
        const ipc_result code = ipc_listener_get_status(handle_, &status);
        if (code != IPC_OK) { return failure(code); }
        return status;
    }
#if IPC_HPP_EXCEPTIONS
    [[nodiscard]] connection accept() const { return try_accept().value(); }
    [[nodiscard]] std::optional<connection> accept(ipc::timeout wait) const { return detail::in_time(try_accept(wait)); }
    [[nodiscard]] listener_status status() const { return try_status().value(); }
#endif

  private:
    friend result<listener> try_listen(const std::string& name, const options& how) noexcept;
    ipc_listener* handle_ = nullptr;
    /// What C's listener points at.
    std::shared_ptr<admit_function> admit_;
};

/// Listens under a plain name, or an absolute path. Any thread. See ipc_listen.
[[nodiscard]] inline result<listener> try_listen(const std::string& name, const options& how = {}) noexcept {
    const ipc_options given = how.native();
    listener bound;
    const ipc_result code = ipc_listen(name.c_str(), &given, &bound.handle_);
    if (code != IPC_OK) { return failure(code); }
    bound.admit_ = how.admit_;
    return bound;
}

/// Connects to whoever listens under this name or absolute path. Any thread. See ipc_connect.
[[nodiscard]] inline result<connection> try_connect(const std::string& name, const options& how = {}) noexcept {
    const ipc_options given = how.native();
    ipc_connection* connected = nullptr;
    const ipc_result code = ipc_connect(name.c_str(), &given, &connected);
    if (code != IPC_OK) { return failure(code); }
    return connection(connected);
}

#if IPC_HPP_EXCEPTIONS
[[nodiscard]] inline listener listen(const std::string& name, const options& how = {}) { return try_listen(name, how).value(); }
[[nodiscard]] inline connection connect(const std::string& name, const options& how = {}) {
    return try_connect(name, how).value();
}
#endif

/// @}
/// @name The library
/// @{

/// Takes a line of the log, without a line end; the text is gone when it returns. Called by several threads at a time, while calls of this
/// library run: it must not call it. What it throws is lost.
using log_function = std::function<void(log_level, std::string_view)>;

/// Has `function` called with every line up to a level, for the whole process; an empty one ends that. Meant to be called once: each function
/// is kept for good, since a thread may be using it. Any thread.
inline void set_log(log_function function, log_level up_to = log_level::warning) {
    struct kept {
        log_function function;
        kept* before;
        static void run(void* self, std::uint32_t level, const char* text) noexcept {
#if IPC_HPP_EXCEPTIONS
            try {
                static_cast<kept*>(self)->function(static_cast<log_level>(level), text);
            } catch (...) {
                return;
            }
#else
            static_cast<kept*>(self)->function(static_cast<log_level>(level), text);
#endif
        }
    };
    static std::atomic<kept*> all{nullptr};
    if (!function) { return ipc_set_log(nullptr, nullptr, 0); }
    auto* one = new kept{std::move(function), all.load()};
    while (!all.compare_exchange_weak(one->before, one)) {}
    ipc_set_log(&kept::run, one, static_cast<std::uint32_t>(up_to));
}

/// Measures what lanes cost now, for at most 40 ms; errc::would_block if the machine was too busy to be believed. Any thread. See
/// ipc_calibrate.
[[nodiscard]] inline result<void> try_calibrate() noexcept { return detail::done(ipc_calibrate()); }

/// What a lane costs by the costs that this process uses; errc::no_lane if there is none in that mode. Any thread. See ipc_get_cost.
[[nodiscard]] inline result<lane_cost> try_cost(mode connection_mode, lane which) noexcept {
    lane_cost cost{};
    cost.size = sizeof(ipc_cost);
    const ipc_result code =
        ipc_get_cost(static_cast<std::uint32_t>(connection_mode), static_cast<std::uint32_t>(which), &cost);
    if (code != IPC_OK) { return failure(code); }
    return cost;
}

/// Up to which length a message should go through a queue whole, rather than through shared memory with a notice of so many bytes through the
/// queue; UINT64_MAX where no length pays. In ns, ns per byte, bytes. Any thread. See ipc_crossover.
[[nodiscard]] inline result<std::uint64_t> try_crossover(double queue_ns, double queue_ns_per_byte, double shared_ns,
                                                         double shared_ns_per_byte, std::uint64_t notify_bytes) noexcept {
    std::uint64_t threshold = 0;
    const ipc_result code =
        ipc_crossover(queue_ns, queue_ns_per_byte, shared_ns, shared_ns_per_byte, notify_bytes, &threshold);
    if (code != IPC_OK) { return failure(code); }
    return threshold;
}

#if IPC_HPP_EXCEPTIONS
/// Whether the measurement can be believed.
inline bool calibrate() { return detail::in_time(try_calibrate()); }
[[nodiscard]] inline lane_cost cost(mode connection_mode, lane which) { return try_cost(connection_mode, which).value(); }
[[nodiscard]] inline std::uint64_t crossover(double queue_ns, double queue_ns_per_byte, double shared_ns,
                                             double shared_ns_per_byte, std::uint64_t notify_bytes) {
    return try_crossover(queue_ns, queue_ns_per_byte, shared_ns, shared_ns_per_byte, notify_bytes).value();
}
#endif

/// A version: first number * 65536 + second number * 256 + third number, so that later ones compare greater.
inline constexpr std::uint32_t header_version = IPC_VERSION_MAJOR << 16 | IPC_VERSION_MINOR << 8 | IPC_VERSION_PATCH;
/// The version of the library in use. Any thread.
[[nodiscard]] inline std::uint32_t version() noexcept { return ipc_version(); }
/// The same as a text that is never freed. Any thread.
[[nodiscard]] inline const char* version_text() noexcept { return ipc_version_text(); }

/// @}

} // inline namespace
} // namespace ipc

template <>
struct std::is_error_code_enum<ipc::errc> : std::true_type {};

#endif // IPC_HPP
