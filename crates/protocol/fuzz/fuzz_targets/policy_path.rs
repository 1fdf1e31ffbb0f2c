#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern_protocol_fuzz::policy_path(data));
