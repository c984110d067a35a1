//! Streams: constant memory, cut off, in part.

use std::io::{Read, Write};

use crate::process::{KEYS, Ran, command, interop};

const CHUNKED: [&str; 2] = ["--kind", "chunked"];

fn seal(plaintext: &[u8], more: &[&str]) -> Vec<u8> {
    interop(&[&["seal"], &KEYS[..], &CHUNKED, more].concat(), plaintext).succeeded()
}

fn open(envelope: &[u8], more: &[&str]) -> Ran {
    interop(&[&["open"], &KEYS[..], &CHUNKED, more].concat(), envelope)
}

fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Gives the program `pieces` pieces of a MiB and reads what it makes of them; returns that it
/// succeeded, how many bytes it wrote, and the most memory that it had, in KiB, which it says
/// while it waits for the end of its input.
fn memory(args: &[&str], mut piece: impl FnMut(usize) -> Option<Vec<u8>> + Send) -> (u64, u64) {
    let mut child = command(args).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let status = format!("/proc/{}/status", child.id());
    let (len, peak) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for number in 0.. {
                let Some(piece) = piece(number) else { break };
                stdin.write_all(&piece).unwrap();
            }
            let status = std::fs::read_to_string(status).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        });
        let mut buf = vec![0; 1 << 20];
        let mut len = 0;
        loop {
            match stdout.read(&mut buf).unwrap() {
                0 => break,
                read => len += read as u64,
            }
        }
        (len, writer.join().unwrap())
    });
    assert!(child.wait().unwrap().success());
    (len, peak)
}

#[test]
#[cfg(target_os = "linux")]
fn a_stream_goes_through_in_constant_memory() {
    const MIB: usize = 64;
    let seal = [&["seal"], &KEYS[..], &CHUNKED].concat();
    let (sealed_len, peak) = memory(&seal, |number| (number < MIB).then(|| vec![7; 1 << 20]));
    let chunks = (MIB << 20 >> 16) as u64 + 1;
    assert_eq!(sealed_len, 100 + (MIB << 20) as u64 + 16 * chunks);
    assert!(peak < 24 << 10, "sealing took {peak} KiB");

    let mut envelope = std::process::Command::new(env!("CARGO_BIN_EXE_interop"));
    let mut sealer = envelope
        .args(&seal)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut to_sealer = sealer.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        (0..MIB).for_each(|_| to_sealer.write_all(&vec![7; 1 << 20]).unwrap());
    });
    let mut sealed = sealer.stdout.take().unwrap();
    let open = [&["open"], &KEYS[..], &CHUNKED].concat();
    let (len, peak) = memory(&open, move |_| {
        let mut piece = vec![0; 1 << 20];
        let len = sealed.read(&mut piece).unwrap();
        piece.truncate(len);
        (len > 0).then_some(piece)
    });
    feeder.join().unwrap();
    assert!(sealer.wait().unwrap().success());
    assert_eq!(len, (MIB << 20) as u64);
    assert!(peak < 24 << 10, "opening took {peak} KiB");
}

#[test]
fn a_stream_that_is_cut_off_is_refused_after_what_was_authentic() {
    let plaintext = counting(3 * 4096);
    let envelope = seal(&plaintext, &["--chunk-log2", "12"]);
    let block = 4096 + 16;
    // Between two chunks, in a chunk, and without the short last one.
    for (cut, chunks) in [(100 + block, 1), (100 + 2 * block - 1, 1), (100 + 3 * block, 3)] {
        let ran = open(&envelope[..cut], &[]);
        assert_eq!(ran.stdout, plaintext[..chunks * 4096]);
        let written = format!("; {} bytes of it were written before", chunks * 4096);
        let line = ran.refused();
        assert!(line.starts_with("authentication error: ") && line.ends_with(&written), "{line}");
    }
    let nothing = open(&envelope[..100], &[]);
    assert!(nothing.stdout.is_empty() && !nothing.refused().contains("written"));
    assert_eq!(open(&envelope, &[]).succeeded(), plaintext);
}

#[test]
fn a_stream_of_each_chunk_size_is_read_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for log2 in ["12", "16", "22"] {
        let plaintext = counting(100_000);
        std::fs::write(file.path(), seal(&plaintext, &["--chunk-log2", log2])).unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(open(b"", &["--in", path]).succeeded(), plaintext);
    }
}

#[test]
fn a_range_fetches_the_chunks_that_it_lies_in() {
    let plaintext = counting(5 * 4096 + 100);
    let envelope = seal(&plaintext, &["--chunk-log2", "12"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &envelope).unwrap();
    let path = file.path().to_str().unwrap();
    let range = |range: &str| open(b"", &["--in", path, "--range", range, "--stats"]);
    for (a, b, chunks) in [(0, 1, 1), (4095, 4097, 2), (4096, 8192, 1), (0, 20_580, 6), (10, 10, 1)]
    {
        let ran = range(&format!("{a}..{b}"));
        assert_eq!(ran.code, 0);
        assert_eq!(ran.stdout, plaintext[a..b]);
        assert_eq!(ran.line(), format!("{chunks} chunks fetched"));
    }
    let beyond = range("0..20581");
    assert!(beyond.refused().starts_with("out of range: "));
    assert!(beyond.stdout.is_empty());

    // Without its tail, it serves what is left of it.
    std::fs::write(file.path(), &envelope[..100 + 2 * 4112]).unwrap();
    assert_eq!(range("0..8192").stdout, plaintext[..8192]);
    assert!(range("0..8193").refused().starts_with("authentication error: "));
}
