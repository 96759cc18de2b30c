//! How quickly the kernel answers, in the way a notebook asks: medians of five, beside stock evcxr_jupyter where it is on the
//! PATH. Run it on an idle machine, with the session library built (`candlescope install`):
//!
//! ```sh
//! cargo build --release -p candlescope-kernel
//! cargo run --release -p candlescope-kernel --example cell_latency
//! cargo run --release -p candlescope-kernel --example cell_latency -- stock    # evcxr_jupyter too; it builds for minutes
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jupyter_protocol::KernelInfoRequest;

#[path = "../tests/client/mod.rs"]
mod client;
use client::{Kernel, Seen};

const ROUNDS: usize = 5;
const LIBRARY: &str = "use candlescope::prelude::*;\nHookedTransformer::from_pretrained(\"tiny\")?";
const MODEL: &str = "let model = HookedTransformer::from_pretrained(\"tiny\")?;";
const TEXT: &str = "John gave a book to Mary.";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the clone").to_path_buf();
    let stock = std::env::args().nth(1).as_deref() == Some("stock");
    println!("medians of {ROUNDS}, in seconds unless said otherwise\n");
    candlescope(&root).await;
    if stock {
        evcxr_jupyter(&root).await;
    }
}

async fn candlescope(root: &Path) {
    let program = program();
    println!("candlescope ({})", program.display());
    let mut start = Vec::new();
    for _ in 0..ROUNDS {
        let mut kernel = Kernel::start(&program, &["kernel", "--control-file"]).await;
        start.push(beginning(&mut kernel, LIBRARY).await);
    }
    report_beginning(&start);

    let mut kernel = Kernel::start(&program, &["kernel", "--control-file"]).await;
    must(kernel.execute(LIBRARY).await);
    cells(&mut kernel).await;
    interrupts(&mut kernel).await;
    compute(&mut kernel, root).await;
}

/// evcxr_jupyter keeps nothing between two starts unless it is told to, and then serves one kernel only; so the first start is
/// measured once, and the others in the folder that it left.
async fn evcxr_jupyter(root: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().to_path_buf();
    let start = || {
        Kernel::start_with("evcxr_jupyter", &["--control_file"], |command| {
            command.env("EVCXR_TMPDIR", &kept);
        })
    };
    let dependency = format!(":dep candlescope = {{ path = \"{}\" }}\n{LIBRARY}", root.display());
    println!("\nevcxr_jupyter");
    let mut kernel = start().await;
    let first = beginning(&mut kernel, &dependency).await;
    println!("{:44} {:7.1}", "first start ever: first cell with the library", first[1]);
    drop(kernel);
    let mut again = Vec::new();
    for _ in 0..ROUNDS {
        again.push(beginning(&mut start().await, &dependency).await);
    }
    report_beginning(&again);
    let mut kernel = start().await;
    must(kernel.execute(&dependency).await);
    cells(&mut kernel).await;
    compute(&mut kernel, root).await;
}

/// Since the process was started: kernel_info, the first cell with the library. Then: how long the first `let` takes, sent at
/// once.
async fn beginning(kernel: &mut Kernel, library: &str) -> [f64; 3] {
    kernel.ask(KernelInfoRequest {}).await;
    let info = kernel.started.elapsed().as_secs_f64();
    must(kernel.execute(library).await);
    let first = kernel.started.elapsed().as_secs_f64();
    let asked = Instant::now();
    must(kernel.execute(MODEL).await);
    [info, first, asked.elapsed().as_secs_f64()]
}

fn report_beginning(rounds: &[[f64; 3]]) {
    let of = |i: usize| median(rounds.iter().map(|round| round[i]).collect());
    row("kernel_info, since the start", of(0), Some(1.0));
    row("first cell with the library, since the start", of(1), Some(4.0));
    row("first let after that", of(2), Some(2.0));
}

async fn cells(kernel: &mut Kernel) {
    must(kernel.execute(MODEL).await);
    // The first of each kind warms what the others use.
    must(kernel.execute(&format!("model.loss(\"{TEXT}\")?")).await);
    must(kernel.execute(&format!("let warm = model.loss(\"{TEXT}\")?;")).await);
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let codes = [
            format!("model.loss(\"{TEXT}\")?"),
            format!("model.run_with_cache(\"{TEXT}\")?.1.pattern({})?", round % 2),
            format!("let loss{round} = model.loss(\"{TEXT}\")?;"),
            format!("let (logits{round}, cache{round}) = model.run_with_cache(\"{TEXT}\")?;"),
        ];
        for (code, times) in codes.iter().zip(&mut times) {
            let started = Instant::now();
            must(kernel.execute(code).await);
            times.push(started.elapsed().as_secs_f64());
        }
    }
    let [number, picture, let_number, let_cache] = times;
    row("an expression on the model (its loss)", median(number), Some(0.4));
    row("an expression with a picture (a pattern)", median(picture), Some(0.4));
    row("a new let (a loss)", median(let_number), Some(0.7));
    row("a new let (logits and cache)", median(let_cache), Some(0.7));
}

async fn interrupts(kernel: &mut Kernel) {
    let work = [
        ("forward pass", format!("loop {{ model.run_with_cache(\"{TEXT}\")?; }}")),
        ("sweep", format!("loop {{ model.sweep(\"{TEXT}\").at(\"z\").zero().measure(metric::loss()).run()?; }}")),
        ("generation", "loop { model.generate(\"John\", &GenerateOptions::new().max_new_tokens(50))?; }".to_string()),
    ];
    for (what, code) in work {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let request = kernel.send(&format!("println!(\"begun\");\n{code}")).await;
            kernel.until_printed(&request, "begun").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            let asked = Instant::now();
            kernel.interrupt().await;
            let seen = kernel.until_idle(&request).await;
            times.push(asked.elapsed().as_secs_f64());
            assert!(seen.error().is_some_and(|error| error.starts_with("interrupt")), "{seen:?}");
        }
        row(&format!("interrupt of a {what}, until idle"), median(times), Some(0.5));
    }
    must(kernel.execute("model.cfg().n_layers").await);
}

/// The same lines in a cell and in a release program, in turn.
async fn compute(kernel: &mut Kernel, root: &Path) {
    let source = std::fs::read_to_string(root.join("examples/forward_speed.rs")).expect("examples/forward_speed.rs");
    let items: String =
        source.lines().filter(|line| !line.starts_with("//!")).map(|line| line.to_string() + "\n").collect();
    let items = items.split("fn main()").next().unwrap_or_default().to_string();
    must(kernel.execute(&items).await);
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "-p", "candlescope", "--example", "forward_speed"]).current_dir(root);
    assert!(build.status().expect("cargo").success());
    let release = program().with_file_name("examples").join(format!("forward_speed{}", std::env::consts::EXE_SUFFIX));
    let (mut in_cell, mut in_release) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let output = Command::new(&release).output().expect("forward_speed");
        in_release.push(number(&String::from_utf8_lossy(&output.stdout)));
        let seen = must(kernel.execute("forward_speed()?").await);
        in_cell.push(number(&seen.result().unwrap_or_default()));
    }
    let (in_cell, in_release) = (median(in_cell), median(in_release));
    println!(
        "{:44} {in_cell:7.1} ms in a cell, {in_release:.1} ms in a release program: {:+.1} % (at most +5)",
        "a forward pass of 1 x 256 tokens",
        (in_cell / in_release - 1.0) * 100.0
    );
}

fn number(text: &str) -> f64 {
    text.trim().parse().expect("a number of milliseconds")
}

fn must(seen: Seen) -> Seen {
    assert!(seen.error().is_none(), "{}", seen.traceback());
    seen
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(what: &str, seconds: f64, limit: Option<f64>) {
    let limit = limit.map_or(String::new(), |limit| format!("  (at most {limit})"));
    println!("{what:44} {seconds:7.2}{limit}");
}

/// The release program beside this one's folder.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("this program");
    let folder = here.ancestors().nth(2).expect("target/release");
    folder.join(format!("candlescope{}", std::env::consts::EXE_SUFFIX))
}
