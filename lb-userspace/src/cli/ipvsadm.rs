//! `ipvsadm`, `ipvsadm-save` and `ipvsadm-restore`.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufWriter, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
};

use anyhow::Result;

use super::gather::Gather;
use crate::{
    daemon::client::Client,
    ipvsadm::{Control, Io, run, run_restore, run_save},
    model::{Request, Response},
};

impl Control for Client {
    fn request(&mut self, request: Request) -> Result<Response> {
        Self::request(self, &request)
    }
}

/// Runs the program called `name`; help and errors call it `argv0`.
pub(super) fn main(name: &str, argv0: &str, args: &[OsString]) -> ExitCode {
    let mut stdout = BufWriter::new(io::stdout().lock());
    // Whoever closed it gets nothing to read.
    let stdin: &mut dyn BufRead = match Gather::new(io::stdin().as_fd()) {
        Ok(gather) => &mut { gather },
        Err(_) => &mut io::empty(),
    };
    let status = {
        let mut io = Io {
            stdin,
            stdout: &mut stdout,
            stderr: &mut io::stderr().lock(),
        };
        let mut client = Client::default();
        match name {
            "ipvsadm-save" => run_save(args, &mut client, &mut io),
            "ipvsadm-restore" => run_restore(args, &mut client, &mut io),
            _ => run(argv0, args, &mut client, &mut io),
        }
    };
    // The original does not notice failing writes either.
    let _ = stdout.flush();
    ExitCode::from(status)
}
