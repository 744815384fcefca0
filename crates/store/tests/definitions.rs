//! The folder of definitions: what is kept is there, and no file harms
//! another.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use dynmem_definition::VmDefinition;
use dynmem_store::{Definitions, DefinitionsError};
use tempfile::TempDir;

fn vm(name: &str, vcpus: u32) -> VmDefinition {
    VmDefinition::from_toml(&format!("name = {name:?}\nvcpus = {vcpus}"), Path::new("test.toml")).expect("a definition")
}

fn folder() -> (TempDir, Definitions) {
    let state = tempfile::tempdir().expect("a temporary folder");
    let definitions = Definitions::open(state.path().join("vms")).expect("creatable");
    (state, definitions)
}

fn names(definitions: &Definitions) -> Vec<String> {
    let loaded = definitions.load_all().expect("listable");
    loaded.definitions.into_iter().map(|definition| definition.name).collect()
}

/// Every file there is, hidden ones too.
fn files(definitions: &Definitions) -> Vec<String> {
    let entries = fs::read_dir(definitions.folder()).expect("listable");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_put_is_loaded_and_nothing_else_is_left() {
    let (_state, definitions) = folder();
    definitions.create(&vm("web01", 1)).expect("new");
    definitions.create(&vm("db01", 2)).expect("new");
    definitions.put(&vm("web01", 4)).expect("replaced");
    let loaded = definitions.load_all().expect("listable");
    assert_eq!(loaded.definitions, [vm("db01", 2), vm("web01", 4)]);
    assert!(loaded.damaged.is_empty());
    assert_eq!(files(&definitions), ["db01.toml", "web01.toml"]);
    assert!(definitions.remove("web01").expect("removable"));
    assert!(!definitions.remove("web01").expect("gone already"));
    assert_eq!(names(&definitions), ["db01"]);
}

#[test]
fn others_can_not_read_them() {
    let (_state, definitions) = folder();
    definitions.create(&vm("web01", 1)).expect("new");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&definitions.folder().join("web01.toml")), 0o640);
    assert_eq!(mode(definitions.folder()) & 0o007, 0);
}

#[test]
fn a_name_is_taken_even_by_a_file_that_can_not_be_read() {
    let (_state, definitions) = folder();
    definitions.create(&vm("web01", 1)).expect("new");
    let path = definitions.folder().join("web01.toml");
    let error = definitions.create(&vm("web01", 2)).expect_err("taken");
    assert_eq!(error.to_string(), format!("A VM named web01 is defined already, in {}", path.display()));
    fs::write(&path, "not a definition").expect("writable");
    assert!(matches!(definitions.create(&vm("web01", 2)), Err(DefinitionsError::Exists { .. })));
    assert_eq!(fs::read_to_string(&path).expect("there"), "not a definition");
    assert_eq!(files(&definitions), ["web01.toml"]);
}

#[test]
fn what_breaks_a_rule_is_not_written() {
    let (_state, definitions) = folder();
    for name in ["../evil", "", ".hidden", "a/b"] {
        let broken = VmDefinition { name: name.to_owned(), ..vm("web01", 1) };
        assert!(matches!(definitions.put(&broken), Err(DefinitionsError::Rule(_))), "{name}");
        assert!(matches!(definitions.create(&broken), Err(DefinitionsError::Rule(_))), "{name}");
        assert!(matches!(definitions.remove(name), Err(DefinitionsError::Rule(_))), "{name}");
    }
    assert!(definitions.put(&VmDefinition { vcpus: 0, ..vm("web01", 1) }).is_err());
    assert!(files(&definitions).is_empty());
}

#[test]
fn a_damaged_file_is_told_with_its_place_and_hides_no_other() {
    let (_state, definitions) = folder();
    for name in ["a", "m", "z"] {
        definitions.create(&vm(name, 1)).expect("new");
    }
    let file = |name: &str| definitions.folder().join(name);
    fs::write(file("b.toml"), "name = \"b\"\nvcpu = 2\n").expect("writable");
    fs::write(file("c.toml"), "name = \"a\"\n").expect("writable");
    fs::write(file("d.toml"), b"name = \"d\" # \xff\n").expect("writable");
    fs::write(file("e.toml"), format!("name = \"e\"\n#{}", " ".repeat(1 << 20))).expect("writable");
    fs::create_dir(file("f.toml")).expect("writable");
    symlink(file("a.toml"), file("g.toml")).expect("writable");
    symlink("/dev/zero", file("h.toml")).expect("writable");
    rustix::fs::mknodat(rustix::fs::CWD, file("i.toml"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("writable");
    fs::write(file("j.toml"), "").expect("writable");

    let loaded = definitions.load_all().expect("listable");
    assert_eq!(loaded.definitions.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["a", "m", "z"]);
    let told: Vec<String> = loaded.damaged.iter().map(|damaged| damaged.error.to_string()).collect();
    let expected = [
        ("b.toml", ", line 2, column 1: Unknown field `vcpu`, expected one of `name`, "),
        ("c.toml", " defines the VM \"a\": name the file a.toml, or the VM after the file"),
        ("d.toml", " is not read: a definition is text in UTF-8"),
        ("e.toml", " is not read: a definition has at most 1MiB"),
        ("f.toml", " is not read: a definition is a regular file, not a link or a folder"),
        ("g.toml", " is not read: a definition is a regular file, not a link or a folder"),
        ("h.toml", " is not read: a definition is a regular file, not a link or a folder"),
        ("i.toml", " is not read: a definition is a regular file, not a link or a folder"),
        ("j.toml", ", line 1, column 1: Missing field `name`"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (name, what)) in told.iter().zip(expected) {
        let expected = format!("File {}{what}", file(name).display());
        assert!(told.starts_with(&expected), "{told}\nwant {expected}");
    }
}

#[test]
fn a_file_torn_at_any_byte_hides_no_other() {
    let (_state, definitions) = folder();
    definitions.create(&vm("web01", 3)).expect("new");
    definitions.create(&vm("web02", 3)).expect("new");
    let path = definitions.folder().join("web01.toml");
    let whole = fs::read(&path).expect("there");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("writable");
        let loaded = definitions.load_all().expect("listable");
        assert_eq!(loaded.definitions.len() + loaded.damaged.len(), 2, "cut at {cut}");
        assert_eq!(loaded.definitions.last().map(|vm| vm.name.as_str()), Some("web02"), "cut at {cut}");
    }
}

#[test]
fn files_that_are_no_definitions_are_left_in_peace() {
    let (_state, definitions) = folder();
    for name in ["README", "web01.toml~", "web01.toml.bak", ".web01.toml.swp", ".hidden.toml"] {
        fs::write(definitions.folder().join(name), "x").expect("writable");
    }
    let before = files(&definitions);
    let again = Definitions::open(definitions.folder()).expect("there");
    let loaded = again.load_all().expect("listable");
    assert!(loaded.definitions.is_empty() && loaded.damaged.is_empty(), "{loaded:?}");
    assert_eq!(files(&again), before);
}

#[test]
fn an_interrupted_write_leaves_the_old_text_and_is_swept() {
    let (_state, definitions) = folder();
    definitions.create(&vm("web01", 1)).expect("new");
    let left_over = definitions.folder().join(".web01.toml.4711-0.tmp");
    fs::write(&left_over, "name = \"web01\"\nvcpus = 9").expect("writable");
    let again = Definitions::open(definitions.folder()).expect("there");
    assert_eq!(again.load_all().expect("listable").definitions, [vm("web01", 1)]);
    assert!(!left_over.exists());
}

#[test]
fn an_error_names_what_was_tried_and_where() {
    let (state, definitions) = folder();
    fs::remove_dir(definitions.folder()).expect("empty");
    let error = definitions.put(&vm("web01", 1)).expect_err("no folder").to_string();
    assert!(error.starts_with(&format!("Can't write {}", definitions.folder().display())), "{error}");
    assert!(definitions.load_all().is_err());
    fs::write(state.path().join("file"), "").expect("writable");
    assert!(Definitions::open(state.path().join("file")).is_err());
}
