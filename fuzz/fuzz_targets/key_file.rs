#![no_main]

use bulla_local::{LocalKek, Unlock};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bulla_testkit::fuzzing::key_file(
    data,
    async |path, key| {
        let kek = LocalKek::open(path, Unlock::raw_key(key)).await?;
        let generation = kek.generation();
        Ok((kek, generation))
    }
));
