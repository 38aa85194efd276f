//! A child process that does not outlive its parent.
//!
//! `longshore dev` may be killed by a signal that it cannot catch. So it starts each program as `longshore child --parent PID -- program`, which asks
//! the kernel for SIGTERM at the parent's death and then becomes the program: the wish survives `exec`, and the process id stays.
//! (Asking between fork and exec instead needs unsafe code.)

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use anyhow::Context as _;

/// Arguments of `longshore child`.
#[derive(clap::Args)]
pub struct ChildArgs {
    /// The process at whose end this one ends.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// The command line that runs `program` as a child of this process; `longshore` is the path of this command.
pub fn command(longshore: &Path, program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(longshore);
    command.args(["child", "--parent", &std::process::id().to_string(), "--"]).arg(program);
    command
}

/// Becomes the program; returns only if that fails.
pub fn become_program(args: &ChildArgs) -> anyhow::Error {
    if let Err(error) = prepare(args.parent) {
        return error;
    }
    let Some((program, rest)) = args.program.split_first() else {
        return anyhow::anyhow!("no program");
    };
    let error = std::process::Command::new(program).args(rest).exec();
    anyhow::Error::new(error).context(format!("cannot run {}", Path::new(program).display()))
}

/// Only Linux can tell a process of its parent's death; elsewhere children of a killed `longshore dev` have to be ended by hand.
fn prepare(parent: i32) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .context("cannot ask for a signal at the parent's end")?;
        // It may have ended before the question was asked; then no signal would come.
        let now = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
        anyhow::ensure!(now == Some(parent), "the parent has ended");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}
