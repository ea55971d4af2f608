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
/// input, less the lines that start with `#`, in one step.
pub fn run_restore(args: &[OsString], control: &mut dyn Control, io: &mut Io<'_>) -> u8 {
    Session {
        argv0: "ipvsadm",
        control,
        io,
        names: &SystemNames,
    }
    .run_restore(&strings(args))
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
            self.line(if args.is_empty() { &list_all } else { args });
        // Nothing sensible is left to do when this fails.
        let _ = self.io.stdout.flush();
        status
    }

    /// `ipvsadm-save`: words that are no options are ignored, as by the original.
    pub(super) fn run_save(&mut self, args: &[String]) -> u8 {
        let mut save = vec!["-S".to_owned()];
        for word in args.iter().filter(|word| word.starts_with('-')) {
            if word != "-n" {
                self.complain("ipvsadm-save: Script to save the IPVS table to stdout.");
                self.complain("   With the -n option, prints out the table in numeric format.");
                return 1;
            }
            save.truncate(1);
            save.push("-n".to_owned());
        }
        self.run(&save)
    }

    /// `ipvsadm-restore`: `-C` and then what comes, read whole. What the
    /// original ignores it ignores too, all words but `--strict`.
    pub(super) fn run_restore(&mut self, args: &[String]) -> u8 {
        let mut input = Vec::new();
        if let Err(error) = self.io.stdin.read_to_end(&mut input) {
            self.complain(&format!("lvx: cannot read standard input: {error}"));
            return 1;
        }
        let strict = args.iter().any(|word| word == "--strict");
        let mut all = b"-C\n".to_vec();
        all.append(&mut input);
        let mut stdin = Cursor::new(all);
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
        // The line before the first is the one that was put there.
        let (Outcome::Done(status) | Outcome::Exit(status)) = inner.restore(strict, 0);
        let _ = inner.io.stdout.flush();
        status
    }

    /// One command line.
    fn line(&mut self, args: &[String]) -> Outcome {
        match self.parse(args) {
            Ok(Command::Restore { strict }) => self.restore(strict, 1),
            Ok(command) => self.carry_out(&command),
            Err(failure) => self.fail(&failure),
        }
    }

    /// What a command line says.
    pub(super) fn parse(&self, args: &[String]) -> Result<Command, Failure> {
        Line::parse(self.argv0, args, self.names).and_then(build)
    }

    fn carry_out(&mut self, command: &Command) -> Outcome {
        match command.request() {
            Some(request) => match self.control.request(request) {
                Ok(response) => self.answered(command, response),
                Err(error) => self.unreachable(&error),
            },
            None => self.tell(command),
        }
    }

    /// What asks nobody.
    pub(super) fn tell(&mut self, command: &Command) -> Outcome {
        if *command == Command::Help {
            self.print(&usage::text(self.argv0));
        } else {
            self.print(&format!("{}\n", usage::VERSION));
        }
        Outcome::Exit(0)
    }

    /// Shows what came back.
    pub(super) fn answered(&mut self, command: &Command, response: Response) -> Outcome {
        let id = match command {
            Command::Change(id, _) => *id,
            _ => CommandId::List,
        };
        if let Response::Refused(refusal) = &response {
            return self.refused(id, refusal);
        }
        let text = match (command, response) {
            (Command::Change(..), Response::Ok) => return Outcome::Done(0),
            (Command::List(service, options), Response::Listing(listing)) => {
                let style = style(self.names, options.numeric);
                list::render(&listing, service.is_none(), *options, style)
            }
            (
                Command::Connections {
                    numeric,
                    persistent,
                },
                Response::Connections(all),
            ) => connections::render(&all, *persistent, style(self.names, *numeric)),
            (Command::Timeouts, Response::Settings(settings)) => {
                let Timeouts { tcp, tcp_fin, udp } = settings.timeouts;
                format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
            }
            // No synchronisation runs, so there is none to show.
            (Command::Daemons, Response::Settings(_)) => String::new(),
            (Command::Save { numeric }, Response::Listing(listing)) => {
                save::render(&listing, style(self.names, *numeric))
            }
            _ => return self.unexpected(),
        };
        self.print(&text);
        Outcome::Done(0)
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

    pub(super) fn unreachable(&mut self, error: &anyhow::Error) -> Outcome {
        self.complain(&format!("{error:#}"));
        Outcome::Exit(USAGE)
    }

    pub(super) fn unexpected(&mut self) -> Outcome {
        self.complain("lvx: the daemon answered something else than was asked; restart it with this version of lvx");
        Outcome::Exit(USAGE)
    }

    pub(super) fn fail(&mut self, failure: &Failure) -> Outcome {
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
