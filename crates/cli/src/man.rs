//! `dynmem man`: the manual, a page for each command, from the same definition
//! as the command line and its help.
//!
//! What follows a command's options in its help is text in blocks. On a page the
//! block of examples and that of exit codes are sections of their own, as
//! manuals have them.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::args::Cli;

/// A page: the name of its file, and its text in roff.
struct Page {
    file: String,
    text: Vec<u8>,
}

/// Writes all pages into a folder, which is made if it is not there. Gives how
/// many these are.
pub(crate) fn write(folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder).with_context(|| format!("Could not make {}", folder.display()))?;
    let pages = pages()?;
    for page in &pages {
        let path = folder.join(&page.file);
        fs::write(&path, &page.text).with_context(|| format!("Could not write {}", path.display()))?;
    }
    Ok(pages.len())
}

fn pages() -> io::Result<Vec<Page>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    pages.push(page(command)?);
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| collect(sub, pages))
}

fn page(command: &Command) -> io::Result<Page> {
    let version = command.get_version().unwrap_or(env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).manual("dynmem").source(format!("dynmem {version}"));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    after_help(&help).to_writer(&mut text)?;
    see_also(command).to_writer(&mut text)?;
    Ok(Page { file: man.get_filename(), text })
}

/// The blocks after the options.
fn after_help(help: &str) -> Roff {
    let mut roff = Roff::new();
    let (mut notes, mut rest) = (Vec::new(), Vec::new());
    for block in help.split("\n\n") {
        match block.lines().next() {
            Some("Examples:" | "Example:") => rest.push(("EXAMPLES", block)),
            Some("Exit codes:") => rest.push(("EXIT STATUS", block)),
            _ => notes.push(block),
        }
    }
    if notes.iter().any(|block| !block.is_empty()) {
        roff.control("SH", ["NOTES"]);
        for block in notes {
            roff.control("PP", []);
            lines(&mut roff, block.lines());
        }
    }
    for (section, block) in rest {
        roff.control("SH", [section]);
        lines(&mut roff, block.lines().skip(1));
    }
    roff
}

/// Lines as they are.
fn lines<'l>(roff: &mut Roff, lines: impl Iterator<Item = &'l str>) {
    roff.control("nf", []);
    for line in lines {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn see_also(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut names = Vec::new();
    if command.get_name() != "dynmem" {
        names.extend([bold("dynmem"), roman("(1), ")]);
    }
    names.extend([bold("dynmemd"), roman("(8)")]);
    roff.text(names);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text as it is on the screen, near enough.
    fn plain(page: &Page) -> String {
        String::from_utf8(page.text.clone())
            .expect("text")
            .replace("\\-", "-")
            .replace("\\*(Aq", "'")
            .replace(r"\\", "\\")
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_its_examples() {
        fn check(command: &Command, pages: &[Page], seen: &mut usize) {
            let name = command.get_display_name().unwrap_or("dynmem");
            let file = format!("{name}.1");
            let page = pages.iter().find(|page| page.file == file).unwrap_or_else(|| panic!("{file} is missing"));
            let text = plain(page);
            let help = command.get_after_help().expect("help").to_string();
            let (_, examples) = help.split_once("xample").expect("examples");
            for line in examples.lines().skip(1) {
                assert!(text.contains(line.trim_end()), "{file} lacks {line:?}: {text}");
            }
            assert!(text.contains("\n.SH EXAMPLES\n"), "{text}");
            for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
                if let Some(long) = option.get_long() {
                    assert!(text.contains(&format!("--{long}")), "{file} lacks --{long}");
                }
            }
            *seen += 1;
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                check(sub, pages, seen);
            }
        }
        let pages = pages().expect("pages");
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let mut seen = 0;
        check(&root, &pages, &mut seen);
        assert_eq!(seen, pages.len(), "a page without a command");
        assert!(seen > 25, "{seen}");
    }

    #[test]
    fn exit_codes_are_a_section_and_lines_stay_lines() {
        let pages = pages().expect("pages");
        let text = plain(&pages[0]);
        assert_eq!(pages[0].file, "dynmem.1");
        assert!(text.contains("\n.SH \"EXIT STATUS\"\n.nf\n  0  done\n"), "{text}");
    }
}
