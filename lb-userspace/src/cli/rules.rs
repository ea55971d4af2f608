//! `lvx mark` and `lvx filter`: rules in the grammar of iptables.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::unexpected;
use crate::{
    daemon::client::Client,
    model::{Chain, Family, Prefix, PrefixSet, Request, Response, RuleChange},
    rules::{self, Command, import},
};

const MARK_USAGE: &str = "\
lvx mark: firewall marks for 'ipvsadm -f', by lvx's own rules (XDP runs before netfilter)

  lvx mark -A RULE            add a rule at the end
  lvx mark -I [NUMBER] RULE   add a rule before another (before the first)
  lvx mark -D RULE | NUMBER   remove a rule
  lvx mark -F [-4|-6]         remove all rules
  lvx mark -L [-4|-6]         list
  lvx mark -S [-4|-6]         print the rules as commands
  lvx mark import FILE|- [--ip6] [--dry-run] [--replace]
                              take the MARK rules out of what iptables-save, ip6tables-save
                              or 'nft -j list ruleset' printed; says what it cannot take

RULE: [-4|-6] [!] -s PREFIX  [!] -d PREFIX  [!] -i IFACE  [!] -p tcp|udp|sctp|all
      [!] --sport|--dport PORT[:PORT]
      -m multiport [!] --sports|--dports|--ports PORT[:PORT],…
      -m set [!] --match-set NAME src|dst    (a set of 'lvx filter set')
      -m comment --comment TEXT
      -j MARK --set-mark|--set-xmark VALUE[/MASK] | --and-mark|--or-mark|--xor-mark BITS
MARK does not end the chain: every rule that matches does its part, in order.
Without an address and without -6 a rule is for IPv4.
";

const FILTER_USAGE: &str = "\
lvx filter: drops service traffic (netfilter does not see it)

  lvx filter -A RULE            add a rule at the end
  lvx filter -I [NUMBER] RULE   add a rule before another (before the first)
  lvx filter -D RULE | NUMBER   remove a rule
  lvx filter -F [-4|-6]         remove all rules
  lvx filter -L [-v] [-4|-6]    list; -v with counters
  lvx filter -S [-4|-6]         print the rules as commands
  lvx filter set create NAME [-6]
  lvx filter set add|del NAME PREFIX…
  lvx filter set destroy NAME
  lvx filter set list [NAME]
  lvx filter set import FILE|- [--dry-run]
                                take the sets of 'ipset save' or 'nft -j list sets'

RULE: as for 'lvx mark', without -i, with -j DROP or -j ACCEPT
The first rule that matches decides. Connections that a new rule drops end at once.
Traffic that is not for a service is never dropped.
";

/// Runs `lvx mark ARGS` or `lvx filter ARGS`.
pub(super) fn main(chain: Chain, args: &[OsString]) -> Result<()> {
    let words: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let usage = match chain {
        Chain::Mark => MARK_USAGE,
        Chain::Filter => FILTER_USAGE,
    };
    match words.first().map(String::as_str) {
        None => bail!("no command given: 'lvx {} -h' shows them", chain.name()),
        Some("-h" | "--help" | "help") => {
            show(usage);
            Ok(())
        }
        Some("import") if chain == Chain::Mark => import_marks(&words[1..]),
        Some("set") if chain == Chain::Filter => set(&words[1..]),
        Some(_) => {
            let command = rules::command(chain, &words)
                .map_err(|text| anyhow::anyhow!("{}: {text}", chain.name()))?;
            run(chain, command)
        }
    }
}

fn run(chain: Chain, command: Command) -> Result<()> {
    let change = match command {
        Command::Append(rules) => RuleChange::Append(chain, rules),
        Command::Insert(number, rules) => RuleChange::Insert(chain, number, rules),
        Command::Delete(rules) => RuleChange::Delete(chain, rules),
        Command::DeleteNumber(family, number) => RuleChange::DeleteNumber(chain, family, number),
        Command::Flush(family) => RuleChange::Flush(chain, family),
        Command::List { verbose, family } => {
            show(&rules::list(chain, &listed(chain, family)?, verbose));
            return Ok(());
        }
        Command::Save(family) => {
            show(&rules::save(&listed(chain, family)?));
            return Ok(());
        }
    };
    send(change)
}

fn listed(chain: Chain, family: Option<Family>) -> Result<Vec<crate::model::ListedRule>> {
    match Client::default().request(&Request::ListRules(chain))? {
        Response::Rules(rules) => Ok(rules
            .into_iter()
            .filter(|listed| family.is_none_or(|family| listed.rule.family == family))
            .collect()),
        other => Err(unexpected(&other)),
    }
}

fn send(change: RuleChange) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "permission denied: changing rules needs root"
    );
    match Client::default().request(&Request::Rules(change))? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// To standard output; a closed pipe is nobody's fault.
fn show(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What an import was told.
struct ImportArgs<'a> {
    file: &'a str,
    dry_run: bool,
    ip6: bool,
    replace: bool,
}

fn import_args<'a>(words: &'a [String], known: &[&str]) -> Result<ImportArgs<'a>> {
    let mut args = ImportArgs {
        file: "",
        dry_run: false,
        ip6: false,
        replace: false,
    };
    for word in words {
        match word.as_str() {
            option if option.starts_with("--") && !known.contains(&option) => {
                bail!("import does not know {option}")
            }
            "--dry-run" => args.dry_run = true,
            "--ip6" => args.ip6 = true,
            "--replace" => args.replace = true,
            file if args.file.is_empty() => args.file = file,
            more => bail!("import takes one file: {more} is too much"),
        }
    }
    ensure!(
        !args.file.is_empty(),
        "import needs a file, or - for standard input"
    );
    Ok(args)
}

fn read(file: &str) -> Result<String> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
    } else {
        bytes = fs::read(file).with_context(|| format!("cannot read {file}"))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn import_marks(words: &[String]) -> Result<()> {
    let args = import_args(words, &["--dry-run", "--ip6", "--replace"])?;
    let found = import::marks(&read(args.file)?, args.ip6).map_err(anyhow::Error::msg)?;
    for left in &found.left {
        eprintln!("lvx: not taken: {left}");
    }
    eprintln!(
        "lvx: {} rules taken, {} not",
        found.rules.len(),
        found.left.len()
    );
    if args.dry_run {
        let listed = found.rules.into_iter();
        let listed: Vec<_> = listed
            .map(|rule| crate::model::ListedRule {
                rule,
                count: [0; 2],
            })
            .collect();
        show(&rules::save(&listed));
        return Ok(());
    }
    if args.replace {
        send(RuleChange::Replace(Chain::Mark, found.rules))
    } else if found.rules.is_empty() {
        Ok(())
    } else {
        send(RuleChange::Append(Chain::Mark, found.rules))
    }
}

fn set(words: &[String]) -> Result<()> {
    let mut rest: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(verb) = (!rest.is_empty()).then(|| rest.remove(0)) else {
        bail!("set needs create, add, del, destroy, list or import");
    };
    if verb == "import" {
        return import_sets(&words[1..]);
    }
    let six = rest.iter().position(|word| *word == "-6");
    if let Some(at) = six {
        rest.remove(at);
    }
    let family = if six.is_some() {
        Family::V6
    } else {
        Family::V4
    };
    let members = |words: &[&str]| -> Result<Vec<Prefix>> {
        ensure!(!words.is_empty(), "set {verb} needs addresses or prefixes");
        let parsed = words.iter().map(|word| word.parse());
        parsed
            .collect::<Result<_, String>>()
            .map_err(anyhow::Error::msg)
    };
    match (verb, rest.as_slice()) {
        ("create", [name]) => send(RuleChange::CreateSet((*name).to_owned(), family)),
        ("destroy", [name]) => send(RuleChange::DestroySet((*name).to_owned())),
        ("add", [name, rest @ ..]) => {
            send(RuleChange::AddToSet((*name).to_owned(), members(rest)?))
        }
        ("del", [name, rest @ ..]) => send(RuleChange::RemoveFromSet(
            (*name).to_owned(),
            members(rest)?,
        )),
        ("list", []) => {
            for set in sets()? {
                let six = if set.family == Family::V6 {
                    " IPv6"
                } else {
                    ""
                };
                show(&format!(
                    "{}{six} {} members\n",
                    set.name,
                    set.members.len()
                ));
            }
            Ok(())
        }
        ("list", [name]) => {
            let sets = sets()?.into_iter();
            let Some(set) = sets.into_iter().find(|set| set.name == *name) else {
                bail!("there is no set {name}");
            };
            let members = set.members.iter();
            show(
                &members
                    .map(|member| format!("{member}\n"))
                    .collect::<String>(),
            );
            Ok(())
        }
        _ => bail!("'lvx filter -h' shows how sets are made"),
    }
}

fn sets() -> Result<Vec<PrefixSet>> {
    match Client::default().request(&Request::ListSets)? {
        Response::Sets(sets) => Ok(sets),
        other => Err(unexpected(&other)),
    }
}

fn import_sets(words: &[String]) -> Result<()> {
    let args = import_args(words, &["--dry-run"])?;
    let (sets, left) = import::sets(&read(args.file)?).map_err(anyhow::Error::msg)?;
    for left in &left {
        eprintln!("lvx: not taken: {left}");
    }
    for set in sets {
        eprintln!("lvx: set {}: {} members", set.name, set.members.len());
        if !args.dry_run {
            send(RuleChange::FillSet(set.name, set.family, set.members))?;
        }
    }
    Ok(())
}
