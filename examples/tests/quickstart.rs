//! Runs the quickstart as its users do, on files that are hard to read, and on broken
//! ones.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// The example in the profile of this test. `cargo test` builds it beside the tests,
/// but for `cargo test --test quickstart`; then this does, once.
fn executable() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let beside = test.ancestors().nth(2).unwrap().join("examples/quickstart");
        let beside = beside.with_extension(std::env::consts::EXE_EXTENSION);
        if beside.exists() {
            return beside;
        }
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--example", "quickstart", "--manifest-path", manifest]);
        cargo.arg("--message-format=json-render-diagnostics");
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut built = messages.filter(|message| message["target"]["name"] == "quickstart");
        built.next_back().unwrap()["executable"].as_str().unwrap().into()
    })
}

/// A directory with a file and, once it has run, its database.
struct Bench(TempDir);

impl Bench {
    fn new(csv: impl AsRef<[u8]>) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.path("in.csv"), csv).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(executable());
        command.env_remove("BULLA_PASSPHRASE");
        command.arg("--csv").arg(self.path("in.csv")).arg("--db").arg(self.path("out.db"));
        command.arg("--json");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// Runs what must succeed, and returns its figures.
    fn figures(&self, args: &[&str]) -> Value {
        figures(&self.run(args))
    }

    /// Every byte of every file, but of the input.
    fn all_bytes(&self) -> Vec<u8> {
        fn collect(directory: &Path, bytes: &mut Vec<u8>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(&path, bytes);
                } else if path.file_name().unwrap() != "in.csv" {
                    bytes.extend(fs::read(path).unwrap());
                }
            }
        }
        let mut bytes = Vec::new();
        collect(self.0.path(), &mut bytes);
        bytes
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn figures(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_bundled_file_goes_all_the_way() {
    let story = Command::new(executable()).output().unwrap();
    assert!(story.status.success());
    assert!(String::from_utf8(story.stdout).unwrap().contains("result    0 mismatches"));

    let figures = figures(&Command::new(executable()).arg("--json").output().unwrap());
    for (name, expected) in [
        ("rows", 300),
        ("sealed_cells", 1200),
        ("envelope_overhead_bytes", 84),
        ("dek_versions", 2),
        ("kek_versions", 2),
        ("stale_before", 1200),
        ("stale_after", 0),
        ("rewrapped_deks", 1),
        ("resealed_cells", 1200),
        ("mismatches", 0),
    ] {
        assert_eq!(figures[name], expected, "{name}");
    }
    for name in ["plaintext_bytes", "kms_calls", "seal_ns_median", "open_ns_median"] {
        assert!(figures[name].as_u64().unwrap() > 0, "{name}");
    }
}

#[test]
fn files_that_are_hard_to_read_are_read() {
    let wide_header: Vec<_> = (0..700).map(|at| format!("column {at}")).collect();
    let wide_row: Vec<_> = (0..700).map(|at| format!("\"cell, {at}\"")).collect();
    let wide = format!("{}\n{}\n", wide_header.join(","), wide_row.join(","));
    let long = format!("id,a\n1,{}\n2,short\n", "x".repeat(9 << 20));
    let most: Vec<_> = (0..1000).map(|at| at.to_string()).collect();
    let most = format!("{0}\n{0}\n", most.join(","));
    for (file, rows, cells) in [
        ("id,a,b\n1,\"x,\"\"y\"\"\nz\",\n\"2\",\"\",\" \"\n", 2, 4),
        ("\u{feff}id,a\n1,x\n", 1, 1),
        ("\u{feff}\"id\",\"a\nb\"\n1,x\n", 1, 1),
        ("id,a\r\n1,x\r\n\r\n2,\"y\r\nz\"\r\n", 2, 2),
        ("id,a\r1,x\r2,y", 2, 2),
        ("id,naïve 名 🌟\n1,Grüße\n二,你好\n3,👩‍👩‍👧\n", 3, 3),
        ("id,a\n1,3\" nail\n2,\"x\"y\n", 2, 2),
        ("select,from,\"w\"\"h;--\",'\n1,2,3,4\n", 1, 3),
        ("id,ID,Id\n1,2,3\n", 1, 2),
        ("id,row_number,rowid,swap\n1,2,3,4\n", 1, 3),
        (",a\n1,2\n", 1, 1),
        ("id,nul\0,a\n1\0,\0,2\n", 1, 2),
        ("key,a\nNULL,NULL\nnull,\n1,1\n1.0,2\n 1,3\n", 5, 5),
        ("id,a\n", 0, 0),
        ("id,a", 0, 0),
        (wide.as_str(), 1, 699),
        (most.as_str(), 1, 999),
        (long.as_str(), 2, 2),
    ] {
        let start: String = file.chars().take(60).collect();
        let figures = Bench::new(file).figures(&[]);
        assert_eq!(figures["rows"], rows, "{start:?}");
        assert_eq!(figures["sealed_cells"], cells, "{start:?}");
        assert_eq!(figures["resealed_cells"], cells, "{start:?}");
        assert_eq!(figures["stale_after"], 0, "{start:?}");
        assert_eq!(figures["mismatches"], 0, "{start:?}");
        assert_eq!(figures["seal_ns_median"].is_null(), cells == 0, "{start:?}");
    }
}

#[test]
fn columns_are_chosen_by_name() {
    let bench = Bench::new("a,\"b,c\",d\nclear-a,secret-b,key-d\n");
    let figures = bench.figures(&["--columns", "\"b,c\"", "--key-column", "d"]);
    assert_eq!(figures["sealed_cells"], 1);
    let bytes = bench.all_bytes();
    assert!(contains(&bytes, "clear-a") && contains(&bytes, "key-d"));
    assert!(!contains(&bytes, "secret-b"));
}

#[test]
fn broken_files_are_refused_by_line_and_column() {
    let bad_utf8 = b"id,a,b\n1,x,y\n2,ok,\xff\xfe\n";
    let long_key = format!("id,a\n1,x\n{},y\n", "k".repeat(1025));
    let header = |columns| (0..columns).map(|at| at.to_string()).collect::<Vec<_>>().join(",");
    let (wide, too_wide) = (header(1999), header(2000));
    // More than a batch, so that the first of the two is in the database already.
    let mut far = "id,a\n".to_owned();
    (0..3000).for_each(|at| far.push_str(&format!("{at},\"two\nlines\"\n")));
    far.push_str("7,again\n");
    let none: &[&str] = &[];
    let cases: &[(&[u8], &[&str], &[&str])] = &[
        (b"", none, &["in.csv is empty"]),
        (b"\n\r\n", none, &["in.csv is empty"]),
        (b"\xef\xbb\xbf", none, &["in.csv is empty"]),
        (b"id,a,b\n1,\"x\ny\",z\n2,u\n", none, &["line 4, column \"b\"", "2 of 3 fields"]),
        (b"id,a\n1,x,y\n", none, &["line 2, column \"a\"", "3 of 2 fields"]),
        (bad_utf8, none, &["line 3, column \"b\"", "not UTF-8"]),
        (b"id,\xff\n", none, &["line 1, column 2", "not UTF-8"]),
        (b"\r\nid,a,id\n", none, &["line 2, column \"id\"", "columns 1 and 3 have the same name"]),
        (b"id,a\n1,x\n,y\n", none, &["line 3, column \"id\"", "no key"]),
        (b"id,a\n1,x\n2,y\n\n1,z\n", none, &["line 5, column \"id\"", "\"1\"", "in line 2"]),
        (far.as_bytes(), none, &["line 6002, column \"id\"", "\"7\"", "in line 16 "]),
        (b"id,a\n1,x\n2,\"y\n3,z\n", none, &["line 3, column \"a\"", "never closed"]),
        (b"id,\"a\n1,x\n", none, &["line 1, column 2", "never closed"]),
        (long_key.as_bytes(), none, &["line 3, column \"id\"", "1025 bytes", "1024"]),
        (too_wide.as_bytes(), none, &["2000 columns"]),
        (wide.as_bytes(), none, &["1998 columns", "999 with --columns"]),
        (b"id\n1\n", none, &["no column to seal", "\"id\""]),
        (b"id;a\n1;x\n", none, &["no column to seal", "separated by commas?"]),
        (b"id,a\n1,x\n", &["--columns", "b"], &["--columns", "\"b\"", "\"id\", \"a\""]),
        (b"id,a\n1,x\n", &["--columns", ""], &["--columns"]),
        (b"id,a\n1,x\n", &["--key-column", "k"], &["--key-column", "\"k\"", "\"id\", \"a\""]),
        (b"id,a\n1,x\n", &["--columns", "a,id"], &["\"id\" cannot be sealed"]),
    ];
    for (file, args, expected) in cases {
        let bench = Bench::new(file);
        let output = bench.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{expected:?}");
        assert!(output.stdout.is_empty(), "{expected:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for text in *expected {
            assert!(stderr.contains(text), "no {text:?} in: {stderr}");
        }
        assert_eq!(bench.names(), ["in.csv"], "a failed run leaves nothing behind: {stderr}");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (path, expected) in [
        (directory.path().join("missing.csv"), "missing.csv"),
        (directory.path().to_owned(), "not a regular file"),
    ] {
        let output = Command::new(executable()).arg("--csv").arg(path).output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected));
    }
}

#[test]
fn no_sealed_plaintext_is_left_in_any_file() {
    let mut file = "id,city,email,note\n".to_owned();
    for at in 0..2000 {
        file.push_str(&format!("{at},clear-{at},sealed-{at}@example.org,\"sealed, {at}\"\n"));
    }
    let bench = Bench::new(file);
    let figures = bench.figures(&["--columns", "email,note"]);
    assert_eq!(figures["sealed_cells"], 4000);
    assert_eq!(bench.names(), ["in.csv", "out.db", "out.db.keys", "out.db.unlock"]);
    let bytes = bench.all_bytes();
    assert!(contains(&bytes, "clear-1234"));
    assert!(!contains(&bytes, "sealed-") && !contains(&bytes, "sealed, "));
    assert!(!contains(&bytes, "@example.org"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("out.db.unlock"), 0o600);
        assert_eq!(mode("out.db.keys"), 0o700);
    }
}

#[test]
fn a_passphrase_takes_the_place_of_the_raw_key() {
    let bench = Bench::new("id,a\n1,x\n");
    let output = bench.command().env("BULLA_PASSPHRASE", "a long passphrase").output().unwrap();
    assert_eq!(figures(&output)["mismatches"], 0);
    assert_eq!(bench.names(), ["in.csv", "out.db", "out.db.keys"]);
    assert!(!contains(&bench.all_bytes(), "a long passphrase"));
}

#[test]
fn nothing_that_exists_is_overwritten() {
    for name in ["out.db", "out.db.keys", "out.db.unlock"] {
        let bench = Bench::new("id,a\n1,x\n");
        fs::write(bench.path(name), "mine").unwrap();
        let output = bench.run(&[]);
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(name) && stderr.contains("exists already"), "{stderr}");
        assert_eq!(fs::read(bench.path(name)).unwrap(), b"mine");
        assert_eq!(bench.names(), ["in.csv", name]);
    }
}
