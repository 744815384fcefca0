//! The tutorial's page → what a reader does, step by step.
//!
//! | block | means |
//! |---|---|
//! | `sh` | typed on the host |
//! | `text` after it | what the host then shows, sooner or later: line by line, `…` is anything |
//! | `console` after it | typed in the guest: what stands before a prompt's end is awaited |
//!
//! Everything else is for readers alone.

use anyhow::{Result, bail, ensure};

/// What ends a prompt in a `console` block.
const PROMPTS: [&str; 2] = ["login: ", ":~# "];

/// A block that is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The heading that it stands under.
    pub(super) heading: String,
    /// Shell lines.
    pub(super) script: String,
    /// What is to be seen then.
    pub(super) then: Then,
}

/// What follows a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The reader goes on.
    Nothing,
    /// These lines are shown.
    Shows(String),
    /// A conversation with a guest: a prompt, and what is typed at it; nothing at the last one.
    Talks(Vec<(String, String)>),
}

/// The page's steps.
pub(super) fn steps(page: &str) -> Result<Vec<Step>> {
    let (mut steps, mut heading): (Vec<Step>, _) = (Vec::new(), String::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            title.clone_into(&mut heading);
        }
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (kind, steps.last_mut()) {
            ("sh", _) => {
                steps.push(Step { heading: heading.clone(), script: block.join("\n"), then: Then::Nothing });
            }
            ("text", Some(step)) => step.then = Then::Shows(block.join("\n")),
            ("console", Some(step)) => step.then = Then::Talks(talk(&block)?),
            (other, _) => bail!("A block of kind {other:?} is nothing that the tutorial's test understands"),
        }
    }
    ensure!(!steps.is_empty(), "The tutorial has no step");
    Ok(steps)
}

fn talk(block: &[&str]) -> Result<Vec<(String, String)>> {
    let pair = |line: &&str| {
        let padded = format!("{line} ");
        let end = PROMPTS.iter().find_map(|prompt| Some(padded.find(prompt)? + prompt.len()));
        let Some(end) = end else { bail!("{line:?} has no prompt: it is to begin as the guest's console does") };
        Ok((padded[..end].trim_end().to_owned(), padded[end..].trim().to_owned()))
    };
    block.iter().map(pair).collect()
}

/// Whether `said` has all lines of `expected`, in their order. Blanks count once, and not at a
/// line's ends.
pub(super) fn shows(said: &str, expected: &str) -> bool {
    let mut said = said.lines().map(plain);
    expected.lines().map(plain).all(|line| said.any(|said| is_like(&said, &line)))
}

fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_like(said: &str, line: &str) -> bool {
    let mut parts = line.split('…').map(str::trim);
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else { return false };
    let mut ends = true; // with a word that was named
    for part in parts {
        ends = !part.is_empty();
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    !ends || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_steps_with_what_follows_them() {
        let page = "# T\n\n## 1. Do\n\n```sh\na\nb\n```\n\nso:\n\n```text\nx …\n```\n\n## 2. Talk\n\n```sh\nc\n```\n\n\
                    ```console\nweb01 login: root\nroot@web01:~# free &\nroot@web01:~#\n```\n\n```sh\nd\n```\n";
        let step = |heading: &str, script: &str, then| Step { heading: heading.into(), script: script.into(), then };
        let said = [("web01 login:", "root"), ("root@web01:~#", "free &"), ("root@web01:~#", "")];
        let talk = said.map(|(prompt, typed)| (prompt.to_owned(), typed.to_owned())).to_vec();
        assert_eq!(
            steps(page).expect("a page"),
            [
                step("1. Do", "a\nb", Then::Shows("x …".into())),
                step("2. Talk", "c", Then::Talks(talk)),
                step("2. Talk", "d", Then::Nothing)
            ]
        );
    }

    #[test]
    fn a_block_that_nobody_runs_is_refused() {
        for page in ["", "```rust\nx\n```\n", "```text\nx\n```\n", "```sh\na\n```\n```console\nno prompt\n```\n"] {
            assert!(steps(page).is_err(), "{page}");
        }
    }

    #[test]
    fn what_is_shown_may_say_more_but_nothing_else() {
        let said = "Memory     23 GiB\nReserve   1 GiB (by formula)\n\nCharged to VMs  0\n";
        for (expected, is_there) in [
            ("Memory … GiB\nCharged to VMs 0", true),
            ("Reserve … GiB …", true),
            ("Reserve … GiB", false),
            ("Charged to VMs 0\nMemory … GiB", false),
            ("Memory … MiB", false),
            ("Charged to VMs", false),
            ("… VMs …", true),
        ] {
            assert_eq!(shows(said, expected), is_there, "{expected}");
        }
    }

    #[test]
    fn the_tutorial_itself_is_understood() {
        let steps = steps(include_str!("../../../docs/manual/src/tutorial.md")).expect("steps");
        assert!(steps.iter().any(|step| matches!(&step.then, Then::Shows(text) if text.contains("agent"))));
        assert!(steps.iter().any(|step| matches!(&step.then, Then::Talks(lines) if lines.len() > 2)));
    }
}
