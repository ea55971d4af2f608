//! The words of a rule, by the grammar of iptables.

use crate::{
    ipvsadm::{Names, SystemNames},
    model::{Addresses, Chain, Family, Match, Ports, Prefix, Protocol, Rule, Target},
};

/// Ports that one `multiport` list may hold; a range counts as two.
const MULTIPORT: usize = 15;
/// Bytes of an interface's name.
const IFACE_BYTES: usize = 15;
/// Bytes of a comment.
const COMMENT_BYTES: usize = 255;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `-A`; several addresses make several rules.
    Append(Vec<Rule>),
    /// `-I`, with the number of the rule before which.
    Insert(usize, Vec<Rule>),
    /// `-D` of what is the same.
    Delete(Vec<Rule>),
    /// `-D` by number.
    DeleteNumber(Family, usize),
    /// `-F`.
    Flush(Option<Family>),
    /// `-L`; with `-v` the counters.
    List {
        /// With counters.
        verbose: bool,
        /// Of one family.
        family: Option<Family>,
    },
    /// `-S`.
    Save(Option<Family>),
}

/// Reads the words behind `lvx mark` or `lvx filter`.
///
/// # Errors
/// One line that says what is wrong.
pub fn command(chain: Chain, words: &[String]) -> Result<Command, String> {
    let mut line = Line::default();
    let mut words = Words { words, next: 0 };
    let mut verb = None;
    let mut number = None;
    let mut verbose = false;
    while let Some(word) = words.take() {
        match word {
            "-A" | "--append" | "-D" | "--delete" | "-I" | "--insert" | "-F" | "--flush" | "-L"
            | "--list" | "-S" | "--list-rules" => {
                let letter = match word {
                    "-A" | "--append" => 'A',
                    "-D" | "--delete" => 'D',
                    "-I" | "--insert" => 'I',
                    "-F" | "--flush" => 'F',
                    "-L" | "--list" => 'L',
                    _ => 'S',
                };
                if let Some(earlier) = verb.replace(letter) {
                    return Err(format!("-{letter} and -{earlier} do not go together"));
                }
                if let Some(name) = words.value() {
                    chain_name(chain, name)?;
                }
                if matches!(letter, 'D' | 'I')
                    && let Some(digits) = words.number()
                {
                    number = Some(rule_number(digits)?);
                }
            }
            "-t" | "--table" => {
                let table = words.need(word)?;
                let own = if chain == Chain::Mark {
                    "mangle"
                } else {
                    "filter"
                };
                if table != own {
                    return Err(format!("there is no table {table} here: leave -t out"));
                }
            }
            "-v" | "--verbose" => verbose = true,
            "-n" | "--numeric" | "--line-numbers" | "-w" | "--wait" => {}
            word => line.option(word, &mut words)?,
        }
    }
    if line.negated {
        return Err("`!' at the end".into());
    }
    let Some(verb) = verb else {
        return Err("no command given: -A, -D, -I, -F, -L or -S".into());
    };
    let family = line.family;
    if matches!(verb, 'F' | 'L' | 'S') {
        if line.any {
            return Err(format!("-{verb} takes no rule"));
        }
        return Ok(match verb {
            'F' => Command::Flush(family),
            'L' => Command::List { verbose, family },
            _ => Command::Save(family),
        });
    }
    if verb == 'D'
        && let Some(number) = number
    {
        if line.any {
            return Err("-D takes a rule or its number, not both".into());
        }
        return Ok(Command::DeleteNumber(family.unwrap_or(Family::V4), number));
    }
    let rules = line.rules(chain)?;
    Ok(match verb {
        'A' => Command::Append(rules),
        'I' => Command::Insert(number.unwrap_or(1), rules),
        _ => Command::Delete(rules),
    })
}

/// Reads the words of a rule as `iptables-save` prints them, without `-A` and the
/// chain. `family` is that of the file.
///
/// # Errors
/// What cannot be taken.
pub fn rule(chain: Chain, family: Family, words: &[String]) -> Result<Vec<Rule>, String> {
    let mut line = Line {
        family: Some(family),
        ..Line::default()
    };
    let mut words = Words { words, next: 0 };
    while let Some(word) = words.take() {
        line.option(word, &mut words)?;
    }
    line.rules(chain)
}

fn chain_name(chain: Chain, name: &str) -> Result<(), String> {
    let known = match chain {
        Chain::Mark => name == "PREROUTING",
        Chain::Filter => name == "INPUT",
    };
    if known {
        Ok(())
    } else {
        Err(format!(
            "there is no chain {name}: lvx {} has one chain, whose name may be left out",
            chain.name()
        ))
    }
}

fn rule_number(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("`{text}' is not the number of a rule"))
}

/// The words of a command line, from left to right.
struct Words<'a> {
    words: &'a [String],
    next: usize,
}

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The next word if it is neither option nor `!` nor a number.
    fn value(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        let value =
            !word.starts_with(['-', '!']) && !word.starts_with(|c: char| c.is_ascii_digit());
        if value { self.take() } else { None }
    }

    fn number(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next)?;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            self.take()
        } else {
            None
        }
    }

    fn need(&mut self, option: &str) -> Result<&'a str, String> {
        self.take().ok_or_else(|| format!("{option} needs a value"))
    }
}

/// What was read of a rule.
#[derive(Default)]
struct Line {
    /// Something of a rule was there.
    any: bool,
    /// The last word was `!`.
    negated: bool,
    family: Option<Family>,
    src: Vec<Match<Addresses>>,
    dst: Vec<Match<Addresses>>,
    protocol: Option<Match<u8>>,
    sports: Option<(String, Match<String>)>,
    dports: Option<(String, Match<String>)>,
    ports: Option<(String, Match<String>)>,
    iface: Option<Match<String>>,
    comment: Option<String>,
    modules: Vec<String>,
    jump: Option<String>,
    mark: Option<Target>,
}

fn once<T>(slot: &mut Option<T>, option: &str, value: T) -> Result<(), String> {
    if slot.replace(value).is_some() {
        return Err(format!("{option} given twice"));
    }
    Ok(())
}

impl Line {
    fn option(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), String> {
        if word == "!" {
            if std::mem::replace(&mut self.negated, true) {
                return Err("`!' given twice".into());
            }
            return Ok(());
        }
        let not = std::mem::take(&mut self.negated);
        // `--option=value`.
        let (word, attached) = match word.split_once('=') {
            Some((word, value)) if word.starts_with("--") => (word, Some(value)),
            _ => (word, None),
        };
        let mut value = || match attached {
            Some(value) => Ok(value),
            None => words.need(word),
        };
        let may_be_negated = matches!(
            word,
            "-s" | "--source"
                | "--src"
                | "-d"
                | "--destination"
                | "--dst"
                | "-p"
                | "--protocol"
                | "--proto"
                | "-i"
                | "--in-interface"
                | "--sport"
                | "--source-port"
                | "--sports"
                | "--source-ports"
                | "--dport"
                | "--destination-port"
                | "--dports"
                | "--destination-ports"
                | "--ports"
                | "--match-set"
        );
        if not && !may_be_negated {
            return Err(format!("`!' does not go with {word}"));
        }
        if word != "-4" && word != "-6" {
            self.any = true;
        }
        match word {
            "-4" | "--ipv4" => self.family(Family::V4)?,
            "-6" | "--ipv6" => self.family(Family::V6)?,
            "-s" | "--source" | "--src" => self.src.push_all(word, not, value()?)?,
            "-d" | "--destination" | "--dst" => self.dst.push_all(word, not, value()?)?,
            "-p" | "--protocol" | "--proto" => {
                let number = protocol(value()?)?;
                match number {
                    Some(what) => once(&mut self.protocol, word, Match { not, what })?,
                    None if not => return Err("`! -p all' matches nothing".into()),
                    None => {}
                }
            }
            "-i" | "--in-interface" => {
                let what = iface(value()?)?;
                // `+` is every interface.
                match what {
                    Some(what) => once(&mut self.iface, word, Match { not, what })?,
                    None if not => return Err("`! -i +' matches nothing".into()),
                    None => {}
                }
            }
            "-m" | "--match" => {
                let module = value()?;
                match module {
                    "tcp" | "udp" | "sctp" | "multiport" | "comment" | "set" => {}
                    other => return Err(format!("-m {other} is not known here")),
                }
                self.modules.push(module.to_owned());
            }
            "--sport" | "--source-port" | "--sports" | "--source-ports" => {
                let what = value()?.to_owned();
                once(&mut self.sports, word, (word.into(), Match { not, what }))?;
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                let what = value()?.to_owned();
                once(&mut self.dports, word, (word.into(), Match { not, what }))?;
            }
            "--ports" | "--port" => {
                let what = value()?.to_owned();
                once(&mut self.ports, word, (word.into(), Match { not, what }))?;
            }
            "--match-set" => {
                let what = Addresses::Set(value()?.to_owned());
                let end = match words.need(word)? {
                    "src" => &mut self.src,
                    "dst" => &mut self.dst,
                    other => {
                        return Err(format!("sets hold addresses: src or dst, not `{other}'"));
                    }
                };
                if !end.is_empty() {
                    return Err("a rule has one condition for each address".into());
                }
                end.push(Match { not, what });
            }
            "--comment" => {
                let text = value()?;
                if text.len() > COMMENT_BYTES {
                    return Err(format!("a comment has at most {COMMENT_BYTES} bytes"));
                }
                once(&mut self.comment, word, text.to_owned())?;
            }
            "-j" | "--jump" => {
                let target = value()?.to_owned();
                once(&mut self.jump, word, target)?;
            }
            "--set-mark" | "--set-xmark" | "--and-mark" | "--or-mark" | "--xor-mark" => {
                let target = mark(word, value()?)?;
                once(&mut self.mark, word, target)?;
            }
            other => return Err(format!("{other} is not known here")),
        }
        Ok(())
    }

    fn family(&mut self, family: Family) -> Result<(), String> {
        if self.family.is_some_and(|known| known != family) {
            return Err("-4 and -6 do not go together".into());
        }
        self.family = Some(family);
        Ok(())
    }

    fn rules(self, chain: Chain) -> Result<Vec<Rule>, String> {
        let target = self.target(chain)?;
        let has = |module: &str| self.modules.iter().any(|known| known == module);
        if self.comment.is_some() && !has("comment") {
            return Err("--comment needs -m comment".into());
        }
        let sports = self.port_match(&self.sports)?;
        let dports = self.port_match(&self.dports)?;
        let ports = self.port_match(&self.ports)?;
        if ports.is_some() && (sports.is_some() || dports.is_some()) {
            return Err("--ports does not go with other ports".into());
        }
        if chain == Chain::Filter && self.iface.is_some() {
            return Err(
                "filter rules have no -i: they also end connections, whose packets may come in by any interface"
                    .into(),
            );
        }
        let any = || vec![None];
        let each = |list: &[Match<Addresses>]| list.iter().cloned().map(Some).collect::<Vec<_>>();
        let sources = if self.src.is_empty() {
            any()
        } else {
            each(&self.src)
        };
        let destinations = if self.dst.is_empty() {
            any()
        } else {
            each(&self.dst)
        };
        let mut rules = Vec::new();
        for src in &sources {
            for dst in &destinations {
                let family = self.family_of([src, dst])?;
                rules.push(Rule {
                    src: meaningful(src),
                    dst: meaningful(dst),
                    protocol: self.protocol.clone(),
                    sports: sports.clone(),
                    dports: dports.clone(),
                    ports: ports.clone(),
                    iface: self.iface.clone(),
                    comment: self.comment.clone(),
                    ..Rule::of(family, target)
                });
            }
        }
        Ok(rules)
    }

    fn target(&self, chain: Chain) -> Result<Target, String> {
        match (chain, self.jump.as_deref(), self.mark) {
            (Chain::Mark, Some("MARK"), Some(mark)) => Ok(mark),
            (Chain::Mark, Some("MARK"), None) => Err(
                "-j MARK needs --set-mark, --set-xmark, --and-mark, --or-mark or --xor-mark".into(),
            ),
            (Chain::Mark, Some(other), _) => Err(format!(
                "-j {other} is not known here: mark rules have -j MARK"
            )),
            (Chain::Mark, None, _) => Err("a mark rule needs -j MARK --set-mark VALUE".into()),
            (Chain::Filter, _, Some(_)) => Err("marks are set by 'lvx mark'".into()),
            (Chain::Filter, Some("DROP"), None) => Ok(Target::Drop),
            (Chain::Filter, Some("ACCEPT"), None) => Ok(Target::Accept),
            (Chain::Filter, Some(other), None) => Err(format!(
                "-j {other} is not known here: filter rules have -j DROP or -j ACCEPT"
            )),
            (Chain::Filter, None, None) => Err("a filter rule needs -j DROP or -j ACCEPT".into()),
        }
    }

    fn family_of(&self, ends: [&Option<Match<Addresses>>; 2]) -> Result<Family, String> {
        let mut family = self.family;
        for end in ends.into_iter().flatten() {
            if let Addresses::Prefix(prefix) = end.what {
                if family.is_some_and(|known| known != prefix.family()) {
                    return Err(format!("{prefix} is of the other family"));
                }
                family = Some(prefix.family());
            }
        }
        Ok(family.unwrap_or(Family::V4))
    }

    /// Ports, once the protocol is known.
    fn port_match(
        &self,
        given: &Option<(String, Match<String>)>,
    ) -> Result<Option<Match<Ports>>, String> {
        let Some((option, text)) = given else {
            return Ok(None);
        };
        let protocol = match &self.protocol {
            Some(Match { not: false, what }) => Protocol::from_number(*what),
            _ => None,
        };
        let Some(protocol) = protocol else {
            return Err(format!("{option} needs -p tcp, -p udp or -p sctp"));
        };
        let list = option.ends_with('s');
        if list && !self.modules.iter().any(|module| module == "multiport") {
            return Err(format!("{option} needs -m multiport"));
        }
        let items: Vec<&str> = if list {
            text.what.split(',').collect()
        } else {
            vec![&text.what]
        };
        let mut ranges = Vec::new();
        let mut room = MULTIPORT;
        for item in items {
            let range = port_range(item, protocol, !list)?;
            let takes = if item.contains(':') { 2 } else { 1 };
            room = room
                .checked_sub(takes)
                .ok_or_else(|| format!("{option} takes at most {MULTIPORT} ports"))?;
            ranges.push(range);
        }
        Ok(Some(Match {
            not: text.not,
            what: Ports { ranges, list },
        }))
    }
}

/// A condition that does not hold for everything.
fn meaningful(end: &Option<Match<Addresses>>) -> Option<Match<Addresses>> {
    let all = |end: &Match<Addresses>| {
        matches!(&end.what, Addresses::Prefix(prefix) if prefix.is_empty()) && !end.not
    };
    end.clone().filter(|end| !all(end))
}

trait PushAll {
    fn push_all(&mut self, option: &str, not: bool, text: &str) -> Result<(), String>;
}

impl PushAll for Vec<Match<Addresses>> {
    /// Adds each address of a list.
    fn push_all(&mut self, option: &str, not: bool, text: &str) -> Result<(), String> {
        if !self.is_empty() {
            return Err(format!("{option} given twice"));
        }
        if not && text.contains(',') {
            return Err("`!' does not go with several addresses".into());
        }
        for item in text.split(',') {
            let what = Addresses::Prefix(
                item.parse::<Prefix>()
                    .map_err(|error| format!("{error} (names of hosts are not looked up)"))?,
            );
            self.push(Match { not, what });
        }
        Ok(())
    }
}

/// A protocol by name or number; `None` is all.
fn protocol(text: &str) -> Result<Option<u8>, String> {
    let number = match text.to_ascii_lowercase().as_str() {
        "all" => 0,
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        other => other.parse().unwrap_or(u8::MAX),
    };
    match number {
        0 => Ok(None),
        6 | 17 | 132 => Ok(Some(number)),
        _ => Err(format!(
            "-p {text}: services are of tcp, udp and sctp (or all)"
        )),
    }
}

/// An interface's name; `None` is any.
fn iface(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text.len() > IFACE_BYTES || text.contains(['/', ' ']) {
        return Err(format!("`{text}' is not the name of an interface"));
    }
    Ok((text != "+").then(|| text.to_owned()))
}

fn port(text: &str, protocol: Protocol) -> Result<u16, String> {
    text.parse::<u16>()
        .ok()
        .or_else(|| SystemNames.port(text, protocol))
        .ok_or_else(|| format!("`{text}' is no port"))
}

/// `80`, `1024:65535`, and where `open`, `:1023` and `1024:`.
fn port_range(text: &str, protocol: Protocol, open: bool) -> Result<(u16, u16), String> {
    let Some((first, last)) = text.split_once(':') else {
        let port = port(text, protocol)?;
        return Ok((port, port));
    };
    let end = |text: &str, default| {
        if text.is_empty() && open {
            Ok(default)
        } else {
            port(text, protocol)
        }
    };
    let (first, last) = (end(first, 0)?, end(last, u16::MAX)?);
    if first > last {
        return Err(format!("there are no ports {text}"));
    }
    Ok((first, last))
}

/// A number as iptables reads it: decimal, `0x` hexadecimal, `0` octal.
fn word32(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        u32::from_str_radix(hex, 16).ok()
    } else if lower.len() > 1 && lower.starts_with('0') {
        u32::from_str_radix(&lower[1..], 8).ok()
    } else {
        lower.parse().ok()
    }
}

fn mark(option: &str, text: &str) -> Result<Target, String> {
    let wrong = || format!("`{text}' is no value for {option}");
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) if option.starts_with("--set") => {
            let (value, mask) = (word32(value), word32(mask));
            (value.ok_or_else(wrong)?, mask.ok_or_else(wrong)?)
        }
        _ => (word32(text).ok_or_else(wrong)?, u32::MAX),
    };
    let (flip, clear) = match option {
        // Bits outside the mask are set too, not inverted.
        "--set-mark" => (value, mask | value),
        "--set-xmark" => (value, mask),
        "--and-mark" => (0, !value),
        "--or-mark" => (value, value),
        _ => (value, 0),
    };
    Ok(Target::Mark { flip, clear })
}
