use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use lvx_oracle::vm::{self, Clock, Job, Kernel};

/// Arguments of `vm`.
#[derive(ClapArgs)]
#[command(override_usage = "cargo xtask vm [OPTIONS] <SCRIPT> [PROGRAMS]...")]
pub(crate) struct Args {
    /// The script, for busybox's shell
    script: PathBuf,
    /// Files for the guest: programs come with their libraries into /usr/bin
    programs: Vec<PathBuf>,
    /// Which kernel: 6.12, or Debian 12's own 6.1
    #[arg(long, value_enum, default_value_t = Kernel::V6_12, hide_possible_values = true)]
    kernel: Kernel,
    /// The host's clock and two processors instead of virtual time and one
    #[arg(long)]
    real_time: bool,
    /// Seconds until the guest is stopped
    #[arg(long, default_value_t = 300)]
    limit: u64,
    /// Where files that the script leaves in /out go
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show the console too
    #[arg(long)]
    console: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let script =
        fs::read(&args.script).with_context(|| format!("cannot read {}", args.script.display()))?;
    let job = Job {
        // iproute2's `ip` wins over busybox's: it is earlier in PATH.
        command: [
            "/bin/busybox",
            "sh",
            "-c",
            "/bin/busybox --install -s /bin; exec /bin/busybox sh /run.sh",
        ]
        .map(str::to_owned)
        .into(),
        files: vec![("/run.sh".to_owned(), script)],
        programs: args.programs.iter().map(PathBuf::as_path).collect(),
        modules: &[],
        limit: Duration::from_secs(args.limit),
        clock: if args.real_time {
            Clock::Real
        } else {
            Clock::Virtual
        },
    };
    let outcome = vm::run(args.kernel, &job)?;
    if args.console {
        eprint!("{}", outcome.console);
    }
    let mut stdout = std::io::stdout().lock();
    for (name, content) in &outcome.files {
        if name == "stdout" {
            stdout.write_all(content)?;
        } else if let Some(out) = &args.out {
            let path = out.join(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    eprintln!("the guest ran for {:.1} s", outcome.took.as_secs_f64());
    Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(1)))
}
