//! Gives libipc.so its soname: programs that were linked against one version find every later one of the same interface.

fn main() {
    // The major version is the interface's; as long as it is 0, the minor one is.
    let part = |name| std::env::var(name).unwrap_or_default();
    let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
    let interface = if major == "0" { format!("{major}.{minor}") } else { major };
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libipc.so.{interface}");
    println!("cargo::rerun-if-changed=build.rs");
}
