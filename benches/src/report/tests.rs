use super::write;

const RUN: &str = r#"{"run":{"bench":"BENCH","cpu":"a processor","cores":2,"features":["aes"],"os":"linux 6.1 x86_64","rustc":"rustc 1.89.0","versions":{"bulla":"0.1.0"},"date":"2026-01-31","command":"bulla-bench BENCH --json"}}"#;

/// A file of a run of `bench` with these figures.
fn file(bench: &str, figures: &[&str]) -> (String, String) {
    let mut lines = vec![RUN.replace("BENCH", bench)];
    for figure in figures {
        lines.push(format!(r#"{{"bench":"{bench}",{figure}}}"#));
    }
    (format!("{bench}.jsonl"), lines.join("\n"))
}

fn ratios() -> (String, String) {
    file(
        "ratios",
        &[
            r#""subject":"bulla-core","op":"seal_into","size":64,"ns":102.5,"raw_ns":100.0,"ratio":1.025,"allocs":0.0"#,
            r#""subject":"bulla-core","op":"seal_into","size":1024,"ns":230.0,"raw_ns":222.0,"ratio":1.036,"allocs":0.0"#,
        ],
    )
}

fn peers() -> (String, String) {
    file(
        "peers",
        &[
            r#""subject":"raw aws-lc-rs","op":"seal_into","size":64,"ns":100,"raw_ns":100,"ratio":1,"allocs":0,"output_bytes":80"#,
            r#""subject":"another 1.0.0","op":"seal","size":64,"ns":1500,"raw_ns":100,"ratio":15,"allocs":5,"output_bytes":329,"settings":"as it comes""#,
        ],
    )
}

#[test]
fn figures_are_shown_with_their_run() {
    let page = write(&[ratios(), peers()], "benchmarks").unwrap();
    let text = page.text();
    for part in [
        "Run of 2026-01-31: `bulla-bench ratios --json` ([lines](benchmarks/runs/ratios.jsonl)).",
        "| bulla-core `seal_into` | 1.02 | 1.04 |",
        "| bulla-core `seal_into` | 103 ns (100 ns) | 230 ns (222 ns) |",
        "| another 1.0.0 | 1.50 µs |",
        "| another 1.0.0 | 265 |",
        "- another 1.0.0: as it comes.",
        "- peers, ratios: bulla 0.1.0.",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let names: Vec<&str> = page.charts().iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        ["ratios.svg", "nanoseconds.svg", "seal-throughput.svg", "overhead.svg", "allocations.svg"]
    );
    for (name, svg) in page.charts() {
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(text.contains(&format!("(benchmarks/{name})")), "{name}");
    }
    assert!(page.charts()[2].1.contains("another 1.0.0"));
}

#[test]
fn what_was_not_measured_is_said_and_not_shown() {
    let page = write(&[ratios(), peers()], "benchmarks").unwrap();
    for bench in ["scaling", "calls", "growth", "cold", "inserts"] {
        assert!(page.text().contains(&format!("there is no run of `{bench}`")), "{bench}");
    }
    // There are figures for sealing only.
    assert!(page.text().contains("the run has no figures for it (Throughput of opening"));
}

#[test]
fn the_same_lines_make_the_same_page() {
    let inputs = [ratios(), peers()];
    assert_eq!(write(&inputs, "benchmarks").unwrap(), write(&inputs, "benchmarks").unwrap());
}

#[test]
fn a_page_is_saved_with_its_charts_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (path, folder) = (directory.path().join("page.md"), directory.path().join("page"));
    write(&[peers()], "page").unwrap().save(&path, &folder).unwrap();
    assert!(folder.join("overhead.svg").exists());
    write(&[ratios()], "page").unwrap().save(&path, &folder).unwrap();
    assert!(folder.join("ratios.svg").exists() && !folder.join("overhead.svg").exists());
    let kept = std::fs::read_to_string(folder.join("runs/ratios.jsonl")).unwrap();
    assert_eq!(kept, ratios().1);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("# Benchmarks"));
}

#[test]
fn lines_that_say_nothing_are_refused_by_number() {
    let error = |lines: &[&str]| {
        let lines = lines.join("\n").replace("BENCH", "ratios");
        format!("{:#}", write(&[("a.jsonl".to_owned(), lines)], "benchmarks").unwrap_err())
    };
    let figure = r#"{"bench":"ratios","subject":"bulla-core","op":"seal","ns":1}"#;
    assert!(error(&[RUN, figure, "{\"bench\":"]).starts_with("a.jsonl:3: "));
    assert!(
        error(&[RUN, r#"{"bench":"ratios","subject":"bulla-core","op":"seal","ns":"1"}"#])
            .starts_with("a.jsonl:2: ")
    );
    assert!(error(&[RUN, "{}"]).starts_with("a.jsonl:2: no figure of a run of ratios"));
    assert!(error(&[RUN, &figure.replace("ratios", "peers")]).starts_with("a.jsonl:2: no figure"));
    assert!(error(&[figure, RUN]).starts_with("a.jsonl:1: a figure before the run"));
    assert!(error(&[RUN, "", RUN]).starts_with("a.jsonl:3: there is a run of ratios already"));
    assert!(error(&[]).starts_with("a.jsonl: no run"));
}
