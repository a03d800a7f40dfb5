#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ipc_fuzz::lanes::run(input));
