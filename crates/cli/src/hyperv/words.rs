//! A cmdlet's words as parameters and values, the way PowerShell reads them: names
//! in any case and as short as is unambiguous, `-Name value` or `-Name:value`,
//! lists with commas, and values without a name by their place.

use dynmem_definition::nearest;

use super::{has_value, is_global, values};

/// A cmdlet, and what it is here.
pub(super) struct Cmdlet {
    pub(super) name: &'static str,
    /// Our commands: the first one, and others that some parameters need.
    pub(super) commands: &'static [&'static [&'static str]],
    pub(super) parameters: &'static [Parameter],
    /// It is about VMs that have to be named.
    pub(super) needs_names: bool,
    /// It is about a change that has to be named.
    pub(super) needs_change: bool,
    /// Adds to our first command what follows from all arguments together.
    pub(super) finish: Option<fn(&Arguments, &mut Vec<String>)>,
    pub(super) example: &'static str,
}

/// A parameter, and what it is here.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) takes: Takes,
    pub(super) becomes: Becomes,
    /// Its value may stand without its name.
    pub(super) is_positional: bool,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing; or `:$true`, `:$false`.
    Switch,
    /// `$true` or `$false`; ours are `on` and `off`.
    Bool,
    /// `2GB`.
    Size,
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// Hyper-V's priority, our weight.
    Priority,
    /// Any text.
    Text,
    /// One of these words, and ours for each.
    Choice(&'static [(&'static str, &'static str)]),
    /// Texts with commas between them.
    List,
}

/// What a parameter is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Becomes {
    /// The VMs that it is about.
    Names,
    /// The counters that it is about.
    Patterns,
    /// An option of the command at that place, with the value.
    Option(usize, &'static str),
    /// These words for the command at that place.
    Words(usize, &'static [&'static str]),
    /// Another command instead of the first.
    Command(&'static [&'static str]),
    /// What is so here in any case.
    Nothing,
    /// What is not possible, and why.
    Refused(&'static str),
}

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// Our own options for all commands.
    pub(super) globals: Vec<String>,
    /// Each parameter once, with its values as ours.
    pub(super) given: Vec<(&'static Parameter, Vec<String>)>,
    /// Switches that were put off: `-Confirm:$false`.
    pub(super) denied: Vec<&'static str>,
}

impl Arguments {
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(parameter, _)| parameter.name == name)
    }
}

/// Understands the words after a cmdlet's name.
pub(super) fn read(cmdlet: &'static Cmdlet, words: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if is_global(word) {
            arguments.globals.push(word.to_owned());
            if has_value(word) {
                arguments.globals.push(words.next().ok_or_else(|| format!("{word} needs a value"))?.to_owned());
            }
            continue;
        }
        let (parameter, inline) = if is_name(word) {
            let (name, inline) =
                word[1..].split_once(':').map_or((&word[1..], None), |(name, value)| (name, Some(value)));
            (named(cmdlet, name)?, inline)
        } else {
            let free = |parameter: &&Parameter| parameter.is_positional && !arguments.has(parameter.name);
            let parameter = cmdlet.parameters.iter().find(free);
            let surplus = || format!("{} has no use for {word:?}: write a parameter's name before it", cmdlet.name);
            (parameter.ok_or_else(surplus)?, Some(word))
        };
        if arguments.has(parameter.name) {
            return Err(format!("-{} is given twice", parameter.name));
        }
        let mut raw = Vec::new();
        match (parameter.takes, inline) {
            (Takes::Switch, None) => {}
            (_, Some(value)) => raw.push(value.to_owned()),
            (_, None) => match words.next_if(|next| !is_name(next)) {
                Some(value) => raw.push(value.to_owned()),
                None => return Err(values::missing(parameter)),
            },
        }
        if parameter.takes == Takes::List {
            // The shell parts `a, b`; the comma says that they belong together.
            while raw.last().is_some_and(|last| last.ends_with(','))
                || words.peek().is_some_and(|next| next.starts_with(','))
            {
                let Some(more) = words.next() else { break };
                raw.push(more.to_owned());
            }
        }
        match values::ours(parameter, &raw)? {
            Some(ours) => arguments.given.push((parameter, ours)),
            None => arguments.denied.push(parameter.name),
        }
    }
    Ok(arguments)
}

/// True for `-Name`, and not for `-1` or a lone `-`.
fn is_name(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// The parameter of this name, or of the only name that begins so.
fn named(cmdlet: &'static Cmdlet, name: &str) -> Result<&'static Parameter, String> {
    let names = |parameter: &Parameter| std::iter::once(parameter.name).chain(parameter.aliases.iter().copied());
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    if let Some(exact) = cmdlet.parameters.iter().find(|parameter| names(parameter).any(is)) {
        return Ok(exact);
    }
    let begins = |known: &str| known.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let mut candidates: Vec<_> = cmdlet.parameters.iter().filter(|it| names(it).any(begins)).collect();
    let is_refused = |it: &&Parameter| matches!(it.becomes, Becomes::Refused(_));
    if !candidates.iter().all(is_refused) {
        candidates.retain(|it| !is_refused(it)); // what is of no use here stands in nobody's way
    }
    match candidates[..] {
        [one] => Ok(one),
        [] => {
            let known = cmdlet.parameters.iter().filter(|known| !matches!(known.becomes, Becomes::Refused(_)));
            let all: Vec<_> = known.map(|parameter| parameter.name).collect();
            let hint = nearest(name, all.iter().copied()).map(|nearest| format!("did you mean -{nearest}?"));
            let hint = hint.unwrap_or_else(|| format!("it has -{}", all.join(", -")));
            Err(format!("{} has no parameter -{name} here: {hint}", cmdlet.name))
        }
        _ => {
            let all: Vec<_> = candidates.iter().map(|parameter| format!("-{}", parameter.name)).collect();
            Err(format!("-{name} may be {}: write more of it", all.join(" or ")))
        }
    }
}
