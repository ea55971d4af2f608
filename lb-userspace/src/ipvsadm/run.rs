//! Carries a command line out.

use std::ffi::OsString;
use std::io::{BufRead, Cursor, Write};

use super::command::{Command, build};
use super::failure::{Failure, REFUSED, USAGE};
use super::grammar::CommandId;
use super::line::Line;
use super::names::{Names, SystemNames};
use super::text::Style;
use super::{connections, list, save, usage};
use crate::model::{Refusal, Request, Response, Timeouts};

/// Exit status of a listing that fails.
const LIST_FAILED: u8 = 1;

/// Whoever answers requests: the daemon, or the pinned maps without one.
///
/// Help, version and errors of grammar ask nothing, so an implementation
/// should connect at the first request.
pub trait Control {
    /// One request, one answer. An error is one clear line saying why there
    /// is no answer and what to do about it.
    fn request(&mut self, request: Request) -> anyhow::Result<Response>;
}

/// The standard streams.
pub struct Io<'a> {
    /// Read by `-R`.
    pub stdin: &'a mut dyn BufRead,
    /// Listings.
    pub stdout: &'a mut dyn Write,
    /// Errors, a line each.
    pub stderr: &'a mut dyn Write,
}

/// Runs `ipvsadm ARGS`; `argv0` is what the help hint calls it. Returns the
/// exit status: 0, 1 (a listing failed), 2 (usage, nothing to talk to, not
/// supported yet), 255 (popt's errors, a change was refused). Failing writes
/// go unnoticed, as with the original.
pub fn run(argv0: &str, args: &[OsString], control: &mut dyn Control, io: &mut Io<'_>) -> u8 {
    Session {
        argv0,
        control,
        io,
        names: &SystemNames,
    }
    .run(&strings(args))
}

/// Runs `ipvsadm-save ARGS`: `ipvsadm -S`, numeric with `-n`.
pub fn run_save(args: &[OsString], control: &mut dyn Control, io: &mut Io<'_>) -> u8 {
    Session {
        argv0: "ipvsadm",
        control,
        io,
        names: &SystemNames,
    }
    .run_save(&strings(args))
}

/// Runs `ipvsadm-restore`: replaces the table by the commands on standard
/// input, less the lines that start with `#`.
pub fn run_restore(control: &mut dyn Control, io: &mut Io<'_>) -> u8 {
    Session {
        argv0: "ipvsadm",
        control,
        io,
        names: &SystemNames,
    }
    .run_restore()
}

fn strings(args: &[OsString]) -> Vec<String> {
    args.iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect()
}

fn style(names: &dyn Names, numeric: bool) -> Style<'_> {
    Style {
        names: (!numeric).then_some(names),
    }
}

/// How a command line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Carried out or refused, with this status; a restore goes on.
    Done(u8),
    /// The process ends with this status.
    Exit(u8),
}

/// One run of the program.
pub(super) struct Session<'s, 'io> {
    pub(super) argv0: &'s str,
    pub(super) control: &'s mut dyn Control,
    pub(super) io: &'s mut Io<'io>,
    pub(super) names: &'s dyn Names,
}

impl Session<'_, '_> {
    /// `ipvsadm`.
    pub(super) fn run(&mut self, args: &[String]) -> u8 {
        let list_all = [String::from("-L")];
        let (Outcome::Done(status) | Outcome::Exit(status)) =
            self.line(if args.is_empty() { &list_all } else { args }, false);
        // Nothing sensible is left to do when this fails.
        let _ = self.io.stdout.flush();
        status
    }

    /// `ipvsadm-save`.
    pub(super) fn run_save(&mut self, args: &[String]) -> u8 {
        let mut save = vec!["-S".to_owned()];
        let is_option = |word: &&String| word.len() > 1 && word.starts_with('-') && *word != "--";
        for word in args.iter().take_while(is_option) {
            if !word[1..].chars().all(|letter| letter == 'n') {
                self.complain("ipvsadm-save: Script to save the IPVS table to stdout.");
                self.complain("   With the -n option, prints out the table in numeric format.");
                return 1;
            }
            save.truncate(1);
            save.push("-n".to_owned());
        }
        self.run(&save)
    }

    /// `ipvsadm-restore`. The input is read whole before the table is cleared.
    pub(super) fn run_restore(&mut self) -> u8 {
        let mut input = Vec::new();
        if let Err(error) = self.io.stdin.read_to_end(&mut input) {
            self.complain(&format!("lvx: cannot read standard input: {error}"));
            return 1;
        }
        match self.line(&["-C".to_owned()], false) {
            Outcome::Done(0) => {}
            Outcome::Done(status) | Outcome::Exit(status) => return status,
        }
        let mut stdin = Cursor::new(input);
        let mut io = Io {
            stdin: &mut stdin,
            stdout: self.io.stdout,
            stderr: self.io.stderr,
        };
        let mut inner = Session {
            argv0: self.argv0,
            control: self.control,
            io: &mut io,
            names: self.names,
        };
        inner.run(&["-R".to_owned()])
    }

    /// One command line. Inside a restore another one is not allowed.
    pub(super) fn line(&mut self, args: &[String], restoring: bool) -> Outcome {
        let command = self.parse(args);
        self.act(command, restoring)
    }

    /// What a command line says.
    pub(super) fn parse(&self, args: &[String]) -> Result<Command, Failure> {
        Line::parse(self.argv0, args, self.names).and_then(build)
    }

    /// Does what a command line said.
    pub(super) fn act(&mut self, command: Result<Command, Failure>, restoring: bool) -> Outcome {
        match command {
            Ok(Command::Restore) if restoring => self.fail(&Failure::try_help(self.argv0)),
            Ok(command) => self.carry_out(command),
            Err(failure) => self.fail(&failure),
        }
    }

    fn carry_out(&mut self, command: Command) -> Outcome {
        match command {
            Command::Help => {
                self.print(&usage::text(self.argv0));
                Outcome::Exit(0)
            }
            Command::Version => {
                self.print(&format!("{}\n", usage::VERSION));
                Outcome::Exit(0)
            }
            Command::Restore => self.restore(),
            Command::List(service, options) => {
                let style = style(self.names, options.numeric);
                self.show(Request::List(service), |response| match response {
                    Response::Listing(listing) => {
                        Some(list::render(&listing, service.is_none(), options, style))
                    }
                    _ => None,
                })
            }
            Command::Connections {
                numeric,
                persistent,
            } => {
                let style = style(self.names, numeric);
                self.show(Request::Connections, |response| match response {
                    Response::Connections(all) => {
                        Some(connections::render(&all, persistent, style))
                    }
                    _ => None,
                })
            }
            Command::Timeouts => self.show(Request::Settings, |response| match response {
                Response::Settings(settings) => {
                    let Timeouts { tcp, tcp_fin, udp } = settings.timeouts;
                    Some(format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n"))
                }
                _ => None,
            }),
            Command::Save { numeric } => {
                let style = style(self.names, numeric);
                self.show(Request::List(None), |response| match response {
                    Response::Listing(listing) => Some(save::render(&listing, style)),
                    _ => None,
                })
            }
            Command::Change(id, request) => self.change(id, request),
        }
    }

    /// Asks and prints what comes back.
    fn show(
        &mut self,
        request: Request,
        render: impl FnOnce(Response) -> Option<String>,
    ) -> Outcome {
        match self.control.request(request) {
            Ok(Response::Refused(refusal)) => self.refused(CommandId::List, &refusal),
            Ok(response) => match render(response) {
                Some(text) => {
                    self.print(&text);
                    Outcome::Done(0)
                }
                None => self.unexpected(),
            },
            Err(error) => self.unreachable(&error),
        }
    }

    fn change(&mut self, id: CommandId, request: Request) -> Outcome {
        match self.control.request(request) {
            Ok(response) => self.changed(id, &response),
            Err(error) => self.unreachable(&error),
        }
    }

    fn changed(&mut self, id: CommandId, response: &Response) -> Outcome {
        match response {
            Response::Ok => Outcome::Done(0),
            Response::Refused(refusal) => self.refused(id, refusal),
            _ => self.unexpected(),
        }
    }

    /// Several changes as one transaction; each is done or refused for itself.
    /// The status is that of the last.
    pub(super) fn changes(&mut self, changes: Vec<(CommandId, Request)>) -> Outcome {
        let (ids, requests): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let count = requests.len();
        let answers = match self.control.request(Request::Batch(requests)) {
            Ok(Response::Batch(answers)) if answers.len() <= count => answers,
            Ok(_) => return self.unexpected(),
            Err(error) => return self.unreachable(&error),
        };
        let mut outcome = Outcome::Done(0);
        for (id, answer) in ids.into_iter().zip(&answers) {
            outcome = self.changed(id, answer);
            if matches!(outcome, Outcome::Exit(_)) {
                break;
            }
        }
        outcome
    }

    fn refused(&mut self, id: CommandId, refusal: &Refusal) -> Outcome {
        let of_server = matches!(
            id,
            CommandId::AddServer | CommandId::EditServer | CommandId::DeleteServer
        );
        match refusal {
            Refusal::NoSuchService if of_server => self.complain("Service not defined"),
            refusal => self.complain(&refusal.to_string()),
        }
        match (refusal, id) {
            (Refusal::Unsupported(_), _) => Outcome::Exit(USAGE),
            (_, CommandId::List) => Outcome::Exit(LIST_FAILED),
            _ => Outcome::Done(REFUSED),
        }
    }

    fn unreachable(&mut self, error: &anyhow::Error) -> Outcome {
        self.complain(&format!("{error:#}"));
        Outcome::Exit(USAGE)
    }

    fn unexpected(&mut self) -> Outcome {
        self.complain("lvx: the daemon answered something else than was asked; restart it with this version of lvx");
        Outcome::Exit(USAGE)
    }

    fn fail(&mut self, failure: &Failure) -> Outcome {
        self.complain(&failure.text);
        Outcome::Exit(failure.status)
    }

    fn print(&mut self, text: &str) {
        // The original does not notice a full disk or a closed pipe either.
        let _ = self.io.stdout.write_all(text.as_bytes());
    }

    /// One line on standard error, after what standard output still holds.
    pub(super) fn complain(&mut self, text: &str) {
        let _ = self.io.stdout.flush();
        let _ = writeln!(self.io.stderr, "{text}");
    }
}
