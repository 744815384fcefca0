//! `dynmemd --manual`: dynmemd(8), from the same definition as its help.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// Writes the page. What follows the options in the help is text in blocks: one
/// that begins with a title is a section.
pub(crate) fn write(command: Command, page: &mut impl Write) -> io::Result<()> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command).section("8").manual("dynmem");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    let mut roff = Roff::new();
    let mut sections = Roff::new();
    for block in help.split("\n\n") {
        let title = block.lines().next().and_then(|line| line.strip_suffix(':'));
        let roff = if title.is_some() { &mut sections } else { &mut roff };
        match title {
            Some(title) => roff.control("SH", [title.to_uppercase().as_str()]),
            None => roff.control("PP", []),
        };
        roff.control("nf", []);
        for line in block.lines().skip(usize::from(title.is_some())) {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff.to_writer(page)?;
    man.render_options_section(page)?;
    sections.control("SH", ["SEE ALSO"]).text([bold("dynmem"), roman("(1)")]);
    sections.to_writer(page)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Args;

    #[test]
    fn the_page_has_the_options_the_files_and_the_examples() {
        let mut page = Vec::new();
        write(Args::command(), &mut page).expect("a page");
        let text = String::from_utf8(page).expect("text").replace("\\-", "-");
        for part in [
            ".TH dynmemd 8 ",
            "--config",
            ".SH FILES\n.nf\n  /etc/dynmem/dynmemd.toml",
            ".SH ENVIRONMENT\n",
            ".SH EXAMPLES\n.nf\n  dynmemd\n",
            "takes them over when it starts again.",
        ] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("--manual"), "{text}");
    }
}
