//! What each part costs inside one thread, with everything in the cache: a floor, not a latency between processes.
//!
//! One iteration of a ring benchmark is a message (or a batch) pushed and read again, so that the ring never fills.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipc_core::cell::VersionedCell;
use ipc_core::offset::Offset;
use ipc_core::ring::{Consumer, Producer, StaticRing};
use std::hint::black_box;
use std::ptr::NonNull;

const CAPACITY: usize = 256 << 10;
const BATCH: u64 = 32;

fn ring() -> (Producer<'static>, Consumer<'static>) {
    let ring: &'static StaticRing<CAPACITY> = Box::leak(Box::new(StaticRing::new()));
    ring.split().expect("a ring that nobody has split")
}

fn push_and_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring push and read");
    for len in [8, 64, 1024] {
        let (mut producer, mut consumer) = ring();
        let payload = vec![7; len];
        let mut buffer = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                producer.try_push(black_box(&payload)).expect("room");
                let record = consumer.try_read().expect("an honest producer").expect("a record");
                record.read_at(0, &mut buffer).expect("as long as the record");
                drop(record);
                black_box(&mut buffer);
            });
        });
    }
}

fn batch_and_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring batch of 32 and read");
    for len in [8, 64, 1024] {
        let (mut producer, mut consumer) = ring();
        let payload = vec![7; len];
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                let mut batch = producer.batch();
                for _ in 0..BATCH {
                    batch.push(black_box(&payload)).expect("room");
                }
                batch.commit();
                let mut records = consumer.read_batch();
                while let Some(record) = records.try_next().expect("an honest producer") {
                    black_box(record);
                }
            });
        });
    }
}

fn poll_empty(criterion: &mut Criterion) {
    let (_, mut consumer) = ring();
    criterion.bench_function("ring poll while empty", |bencher| {
        bencher.iter(|| black_box(&mut consumer).try_read().expect("an honest producer").is_some());
    });
}

fn versioned_cell(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cell of 64 bytes");
    let mut cell = VersionedCell::new([0_u64; 8]);
    let (mut writer, reader) = cell.split();
    group.bench_function("store", |bencher| bencher.iter(|| writer.store(black_box(&[3; 8]))));
    group.bench_function("load", |bencher| bencher.iter(|| black_box(&reader).try_load()));
}

fn offset(criterion: &mut Criterion) {
    let mut mapping = vec![0_u64; 512];
    let base = NonNull::from(&mut mapping[..]).cast::<u8>();
    criterion.bench_function("offset resolve", |bencher| {
        bencher.iter(|| black_box(Offset::<u64>::new(1024)).resolve(black_box(base), black_box(4096)));
    });
}

criterion_group!(parts, push_and_read, batch_and_read, poll_empty, versioned_cell, offset);
criterion_main!(parts);
