//! `interop seal`.

use std::io::{self, Read, Write};

use bulla_core::limits::ONE_SHOT_PLAINTEXT_BYTES_MAX;
use bulla_core::{KeyOptions, StreamOptions, hazmat};

use super::args::{Form, Seal};
use super::failure::Failure;
use super::{BUFFER_LEN, fill, hex, stdout};

pub(crate) fn run(args: &Seal) -> Result<(), Failure> {
    let nonce = match &args.nonce {
        Some(digits) => Some(hex::array("--nonce", digits)?),
        None => None,
    };
    if args.chunk_log2.is_some() && args.keys.kind == Form::OneShot {
        return Err(Failure::Usage("--chunk-log2 is for --kind chunked".into()));
    }
    let (key, record) = hex::key(&args.keys, KeyOptions::default().with_suite(args.suite))?;
    let codec = args.keys.codec;
    let (mut stdin, stdout) = (io::stdin().lock(), stdout());

    if args.keys.kind == Form::OneShot {
        let mut plaintext = Vec::new();
        // A byte more than there may be is enough to be refused.
        let most = ONE_SHOT_PLAINTEXT_BYTES_MAX as u64 + 1;
        stdin.take(most).read_to_end(&mut plaintext).map_err(Failure::input)?;
        let envelope = match nonce {
            Some(nonce) => hazmat::seal(&key, nonce, codec, &plaintext, &record)?,
            None => key.seal_as(codec, &plaintext, &record)?,
        };
        let mut stdout = stdout;
        return stdout.write_all(&envelope).and_then(|()| stdout.flush()).map_err(Failure::output);
    }

    let mut options = StreamOptions::default().with_codec(codec);
    if let Some(log2) = args.chunk_log2 {
        options = options.with_chunk_log2(log2);
    }
    let sealer = match nonce {
        Some(salt) => hazmat::chunk_sealer(&key, salt, &record, options)?,
        None => key.chunk_sealer(&record, options)?,
    };
    // Whole chunks are sealed from where they are.
    let mut buffer = vec![0; BUFFER_LEN.max(sealer.chunk_len())];
    let mut writer = sealer.into_writer(stdout);
    loop {
        let len = fill(&mut stdin, &mut buffer)?;
        writer.write_all(&buffer[..len]).map_err(Failure::output)?;
        if len < buffer.len() {
            break;
        }
    }
    writer.finish().map(drop).map_err(Failure::output)
}
