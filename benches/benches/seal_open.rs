//! Seal and open of bulla-core under criterion, for both libraries and nonce modes.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that cannot set up must stop")]

use std::hint::black_box;

use bulla_core::{
    DataKey, DekVersion, EnvelopeKey, KeyOptions, Library, NonceMode, RecordContext, ScopeContext,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn seal_open(criterion: &mut Criterion) {
    let scope = ScopeContext::new([("tenant", "t-9f2c"), ("purpose", "customers")]).unwrap();
    let context =
        RecordContext::new([("table", "customers"), ("column", "email"), ("row", "1234567")])
            .unwrap();
    let dek = DataKey::generate().unwrap();
    for library in Library::ALL {
        for nonces in [NonceMode::Fresh, NonceMode::Epoch] {
            let options = KeyOptions::default().with_library(*library).with_nonces(nonces);
            let key = EnvelopeKey::derive(&dek, DekVersion::FIRST, &scope, options).unwrap();
            let mut group = criterion.benchmark_group(format!("{library:?}/{nonces:?}"));
            for size in [64, 1024, 65_536] {
                let mut plaintext = vec![7; size];
                let mut envelope = vec![0; size + EnvelopeKey::OVERHEAD];
                group.throughput(Throughput::Bytes(size as u64));
                group.bench_function(BenchmarkId::new("seal_into", size), |bencher| {
                    bencher.iter(|| {
                        black_box(key.seal_into(&plaintext, &context, &mut envelope).unwrap())
                    });
                });
                group.bench_function(BenchmarkId::new("open_into", size), |bencher| {
                    bencher.iter(|| {
                        black_box(key.open_into(&envelope, &context, &mut plaintext).unwrap())
                    });
                });
            }
        }
    }
}

criterion_group!(benches, seal_open);
criterion_main!(benches);
