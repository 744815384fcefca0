//! For people who come from Hyper-V: its cmdlet lines, as they are.
//!
//! ```text
//!  Set-VMMemory -VMName a,b -StartupBytes 2GB       (or a link of that name)
//!    words ──▶ [`words`]: parameters and values ──▶ the table in [`cmdlets`]
//!                                                     │
//!    memory set --startup 2GiB -- (?i)a (?i)b ◀───────┘
//! ```
//! A cmdlet's line becomes one of ours, or two, before anything is done, and goes
//! on as if it had been typed: so it has the same checks, and the same output.
//! Nothing here asks the daemon. What has no meaning here is refused with the
//! reason, and a misspelt parameter with the one that was probably meant.

mod cmdlets;
mod help;
mod safety;
mod values;
mod words;

use std::path::Path;

use dynmem_definition::nearest;

use cmdlets::CMDLETS;
use safety::{Line, Safe, safe, what_if};
use values::pattern;
use words::{Arguments, Becomes, Cmdlet};

/// What a cmdlet's line means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Lines of our own, without the program's name, to be carried out one after
    /// the other; and what is told first.
    Lines { told: Vec<String>, lines: Vec<Vec<String>> },
    /// It asks what can be asked.
    Help(String),
}

/// What a line means that is a cmdlet's: by the name by which we were called, or
/// by its first word. None for a line of our own. An error is a sentence.
pub(crate) fn translate(line: &[String]) -> Option<Result<Meaning, String>> {
    let (called, words) = line.split_first()?;
    let called = Path::new(called).file_name()?.to_str()?;
    if let Some(cmdlet) = find(called) {
        return Some(meaning(cmdlet, words));
    }
    let mut at = 0;
    while words.get(at).is_some_and(|word| is_global(word)) {
        at += if has_value(&words[at]) { 2 } else { 1 }; // the value of `--socket` is no cmdlet
    }
    let name = words.get(at)?;
    let rest: Vec<String> = words[..at].iter().chain(&words[at + 1..]).cloned().collect();
    match find(name) {
        Some(cmdlet) => Some(meaning(cmdlet, &rest)),
        None if looks_like_a_cmdlet(name) => Some(Err(unknown(name))),
        None => None,
    }
}

/// The names of all cmdlets that are understood.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CMDLETS.iter().map(|cmdlet| cmdlet.name)
}

fn is_global(word: &str) -> bool {
    word == "--json" || has_value(word) || is_whole(word)
}

/// True for those of our own options whose value is the next word.
fn has_value(word: &str) -> bool {
    ["--socket", "--url", "--ca", "--output", "-o"].contains(&word)
}

/// True for those that have their value with them.
fn is_whole(word: &str) -> bool {
    ["--socket=", "--url=", "--ca=", "--output="].iter().any(|option| word.starts_with(option))
}

fn find(name: &str) -> Option<&'static Cmdlet> {
    CMDLETS.iter().find(|cmdlet| cmdlet.name.eq_ignore_ascii_case(name))
}

/// A verb and a noun; none of our own commands has a hyphen.
fn looks_like_a_cmdlet(word: &str) -> bool {
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphabetic());
    word.split_once('-').is_some_and(|(verb, noun)| letters(verb) && letters(noun))
}

fn unknown(name: &str) -> String {
    let known: Vec<_> = names().collect();
    let hint = nearest(name, known.iter().copied()).map(|nearest| format!("did you mean {nearest}?"));
    let hint = hint.unwrap_or_else(|| format!("these are: {}", known.join(", ")));
    format!("{name} is not one of the cmdlets that are understood here; {hint}")
}

fn meaning(cmdlet: &'static Cmdlet, words: &[String]) -> Result<Meaning, String> {
    if words.iter().any(|word| ["-?", "-help", "--help", "-h"].contains(&word.to_ascii_lowercase().as_str())) {
        return Ok(Meaning::Help(help::text(cmdlet)));
    }
    let arguments = words::read(cmdlet, words)?;
    lines(cmdlet, &arguments)
}

/// What a cmdlet's arguments come to.
fn lines(cmdlet: &Cmdlet, arguments: &Arguments) -> Result<Meaning, String> {
    let (mut lines, patterns) = said(cmdlet, arguments)?;
    if let (Some(finish), Some((_, options))) = (cmdlet.finish, lines.first_mut()) {
        finish(arguments, options);
    }
    if cmdlet.needs_change && lines.iter().all(|(_, options)| options.is_empty()) {
        return Err(format!("{} changes nothing: say what to change, such as {}", cmdlet.name, cmdlet.example));
    }
    let is_wanted = |at: usize, options: &[String]| !options.is_empty() || (at == 0 && !cmdlet.needs_change);
    let wanted = lines.into_iter().enumerate().filter(|(at, (_, options))| is_wanted(*at, options));
    let Safe { lines, untried } = safe(cmdlet.name, arguments, wanted.map(|(_, line)| line).collect())?;
    let whole = |(command, options): Line| -> Vec<String> {
        let command = command.iter().map(|word| (*word).to_owned());
        // What follows `--` is no option, whatever it begins with.
        let ends = (!patterns.is_empty()).then(|| "--".to_owned());
        arguments.globals.iter().cloned().chain(command).chain(options).chain(ends).chain(patterns.clone()).collect()
    };
    let told = untried.into_iter().map(|line| what_if(&whole(line))).collect();
    Ok(Meaning::Lines { told, lines: lines.into_iter().map(whole).collect() })
}

/// Our own commands with their options, and whom they are about.
fn said(cmdlet: &Cmdlet, arguments: &Arguments) -> Result<(Vec<Line>, Vec<String>), String> {
    let mut lines: Vec<Line> = cmdlet.commands.iter().map(|command| (*command, Vec::new())).collect();
    let (mut patterns, mut names) = (Vec::new(), false);
    for (parameter, values) in &arguments.given {
        let mut say = |at: usize, words: &[&str]| lines[at].1.extend(words.iter().map(|word| (*word).to_owned()));
        match parameter.becomes {
            Becomes::Names => {
                names = true;
                for value in values {
                    patterns.push(pattern(parameter.name, value)?);
                }
            }
            Becomes::Patterns => patterns.extend(values.iter().cloned()),
            Becomes::Option(at, option) => say(at, &[option, &values[0]]),
            Becomes::Words(at, words) => say(at, words),
            Becomes::Command(command) => lines[0].0 = command,
            Becomes::Nothing => {}
            Becomes::Refused(why) => {
                return Err(format!("{} -{} is not understood: {why}", cmdlet.name, parameter.name));
            }
        }
    }
    if cmdlet.needs_names && !names {
        let name = cmdlet.name;
        return Err(format!("{name} needs the name of a VM: {name} web01, or {name} 'Dev-*'"));
    }
    Ok((lines, patterns))
}

#[cfg(test)]
pub(crate) mod tests;
