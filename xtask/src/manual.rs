//! `cargo xtask manual`: the user manual in `docs/manual`, as a book by mdBook.
//!
//! Building it takes mdBook, which takes minutes to install: tests look at what can
//! be wrong without it, that is, at links and chapters.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use crate::{shell, tools};

/// Where the book goes.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder for the pages [default: manual in the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Builds the book.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::MDBOOK.ensure()?;
    let out = options.out.clone().unwrap_or_else(|| shell::target_dir().join("manual"));
    let out = std::path::absolute(out)?; // mdBook would take it as one in the book
    shell::run(Command::new("mdbook").arg("build").arg(shell::root().join("docs/manual")).arg("--dest-dir").arg(&out))?;
    eprintln!("{}", out.join("index.html").display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use crate::shell;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// A page as it is in the book: with the pages that it includes.
    fn in_the_book(path: &Path) -> String {
        let text = read(path);
        let Some((before, rest)) = text.split_once("{{#include ") else { return text };
        let (file, after) = rest.split_once("}}").expect("an end");
        let included = read(&path.parent().expect("a folder").join(file));
        format!("{before}{included}{after}")
    }

    /// Targets of a page's links to files, without those in code.
    fn links(text: &str) -> Vec<String> {
        let prose: Vec<&str> = text.split("```").step_by(2).collect();
        let targets =
            prose.iter().flat_map(|prose| prose.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
        targets
            .filter(|target| !target.starts_with("http") && !target.starts_with('#'))
            .map(|target| target.split('#').next().unwrap_or(target).to_owned())
            .collect()
    }

    fn source() -> PathBuf {
        shell::root().join("docs/manual/src")
    }

    fn chapters() -> BTreeSet<String> {
        links(&read(&source().join("SUMMARY.md"))).into_iter().collect()
    }

    #[test]
    fn every_page_of_the_manual_is_a_chapter_and_every_chapter_a_page() {
        let pages = fs::read_dir(source()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let pages: BTreeSet<String> = pages.map(|name| name.to_string_lossy().into_owned()).collect();
        let others = BTreeSet::from(["SUMMARY.md".to_owned(), "openapi.json".to_owned()]);
        assert_eq!(pages.difference(&others).cloned().collect::<BTreeSet<_>>(), chapters());
    }

    #[test]
    fn every_link_in_the_book_leads_to_a_chapter() {
        for chapter in chapters() {
            for target in links(&in_the_book(&source().join(&chapter))) {
                assert!(
                    source().join(&target).exists(),
                    "{chapter} has a link to {target:?}, which is not in the book"
                );
            }
        }
    }

    #[test]
    fn every_link_between_the_documents_leads_to_a_file() {
        let documents = ["", "docs", "docs/manual/src"].into_iter().flat_map(|folder| {
            let entries = fs::read_dir(shell::root().join(folder)).expect("a folder");
            entries.map(|entry| entry.expect("an entry").path())
        });
        let mut seen = 0;
        for document in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
            for target in links(&read(&document)) {
                let place = document.parent().expect("a folder").join(&target);
                assert!(place.exists(), "{} has a link to {target:?}, which is not there", document.display());
                seen += 1;
            }
        }
        assert!(seen > 50, "only {seen} links: are they found?");
    }
}
