//! `interop open`.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use bulla_core::limits::ONE_SHOT_PLAINTEXT_BYTES_MAX;
use bulla_core::{Codec, EnvelopeKey, KeyOptions, RecordContext};

use super::args::{Form, Open};
use super::failure::Failure;
use super::{BUFFER_LEN, hex, stdout};

pub(crate) fn run(args: &Open) -> Result<(), Failure> {
    if args.range.is_some() && args.keys.kind != Form::Chunked {
        return Err(Failure::Usage("--range is for --kind chunked".into()));
    }
    let (first, others) = match args.suite.split_first() {
        Some((first, others)) => (*first, others),
        None => return Err(Failure::Usage("--suite is 1 or 2".into())),
    };
    let options = KeyOptions::default().with_suite(first);
    let options = others.iter().fold(options, |options, suite| options.accepting(*suite));
    let (key, record) = hex::key(&args.keys, options)?;
    let codec = args.keys.codec;

    let file = match &args.file {
        Some(path) => {
            Some(File::open(path).map_err(|error| Failure::Io("opening the file", error))?)
        }
        None => None,
    };
    match (file, &args.range, args.keys.kind) {
        (Some(file), Some(range), _) => {
            let chunks = open_range(&key, &record, codec, file, range.clone())?;
            if args.stats {
                super::say(&format!("{chunks} chunks fetched"));
            }
            Ok(())
        }
        (Some(file), None, Form::Chunked) => open_stream(&key, &record, codec, file),
        (Some(file), None, Form::OneShot) => open_one_shot(&key, &record, codec, file),
        (None, _, Form::Chunked) => open_stream(&key, &record, codec, io::stdin().lock()),
        (None, _, Form::OneShot) => open_one_shot(&key, &record, codec, io::stdin().lock()),
    }
}

fn open_one_shot(
    key: &EnvelopeKey,
    record: &RecordContext,
    codec: Codec,
    reader: impl Read,
) -> Result<(), Failure> {
    let mut envelope = Vec::new();
    let most = (EnvelopeKey::OVERHEAD + ONE_SHOT_PLAINTEXT_BYTES_MAX) as u64 + 1;
    reader.take(most).read_to_end(&mut envelope).map_err(Failure::input)?;
    write(&key.open_as(codec, &envelope, record)?)
}

/// Writes what is authentic as it comes; the first byte only after the first chunk is.
fn open_stream(
    key: &EnvelopeKey,
    record: &RecordContext,
    codec: Codec,
    reader: impl Read,
) -> Result<(), Failure> {
    let mut reader = key.open_reader(reader, record, codec).map_err(Failure::input)?;
    let mut stdout = stdout();
    // As long as the longest chunk, so that each is opened where it is written from.
    let mut buffer = vec![0; BUFFER_LEN.max(1 << bulla_core::limits::CHUNK_LOG2_MAX)];
    let mut written = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return stdout.flush().map_err(Failure::output),
            Ok(len) => {
                stdout.write_all(&buffer[..len]).map_err(Failure::output)?;
                written += len as u64;
            }
            Err(error) => {
                // What the message speaks of has to be written.
                stdout.flush().map_err(Failure::output)?;
                return Err(Failure::input(error).after(written));
            }
        }
    }
}

/// Returns how many chunks were fetched.
fn open_range(
    key: &EnvelopeKey,
    record: &RecordContext,
    codec: Codec,
    mut file: File,
    range: Range<u64>,
) -> Result<u64, Failure> {
    let chunks = Cell::new(0);
    let total_len = file.seek(SeekFrom::End(0)).map_err(Failure::input)?;
    let source = |offset: u64, buf: &mut [u8]| {
        // What begins at 0 is header and commitment.
        chunks.set(chunks.get() + u64::from(offset > 0));
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buf)
    };
    let opened = key.open_range_with(source, total_len, record, codec);
    let plaintext =
        opened.and_then(|mut reader| reader.read_range(range)).map_err(Failure::input)?;
    write(&plaintext)?;
    Ok(chunks.get())
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = stdout();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::output)
}
