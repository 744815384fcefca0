//! Puts the dashboard (`ui/dist`, built by `cargo xtask ui` and kept in the
//! repository) into the program: `dashboard.rs` gets a table of its files, each
//! as it is and compressed.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../ui/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut paths = files(&dist).map_err(|error| format!("{}: {error}; `cargo xtask ui` makes it", dist.display()))?;
    paths.sort();
    let mut table = String::from("&[");
    for path in paths.iter().filter(|path| path.extension() != Some("gz".as_ref())) {
        let name = path.strip_prefix(&dist)?.to_str().ok_or("a file's name is not text")?;
        let (plain, compressed) = (path.display(), path.with_added_extension("gz"));
        let compressed = compressed.display();
        writeln!(
            table,
            "File {{ name: {name:?}, plain: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            plain.to_string(),
            compressed.to_string()
        )?;
    }
    table.push(']');
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("dashboard.rs"), table)?;
    Ok(())
}

/// All files in a folder and those below it.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
