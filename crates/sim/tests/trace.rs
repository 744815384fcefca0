//! What is read of a trace, and each thing that can be wrong with one.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use dynmem_sim::trace::Trace;
use dynmem_units::Bytes;
use proptest::{collection::vec, prelude::*};

const HEADER: &str = "sample,unix_s,web_4096,db-1_16384";

fn read(text: &str) -> Result<Trace, String> {
    Trace::read(text.as_bytes(), "week.csv").map_err(|error| error.to_string())
}

/// What is said of a good header with these lines below it.
fn refusal(rows: &str) -> String {
    read(&format!("{HEADER}\n{rows}")).expect_err(rows)
}

/// What is said of a trace with this column for a VM.
fn refused_header(columns: &str) -> String {
    read(&format!("sample,unix_s,{columns}\n")).expect_err(columns)
}

#[test]
fn a_trace_has_an_interval_and_each_vm_its_samples() {
    let trace = read(&format!("{HEADER}\n0,1000,812,9120.5\n1,1300,0,9121\n2,1600,5000,9121\n")).expect("valid");
    assert_eq!(trace.interval_ms, 300_000);
    assert_eq!(trace.vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>(), ["web", "db-1"]);
    assert_eq!(trace.vms[0].configured, Bytes::from_mib(4096));
    let (web, db) = (&trace.vms[0].samples, &trace.vms[1].samples);
    assert_eq!(**web, [Bytes::from_mib(812), Bytes::ZERO, Bytes::from_mib(5000)], "more than the VM's size stays");
    assert_eq!(db[0], Bytes::new((9120 << 20) + (512 << 10)), "half a MiB is not lost");
}

#[test]
fn files_of_other_programs_are_read_as_well() {
    let plain = read("sample,unix_s,web_4096\n0,1000,1\n1,1001,2\n").expect("valid");
    for same in [
        "sample,unix_s,web_4096\r\n0,1000,1\r\n1,1001,2\r\n",
        "\u{feff}sample,unix_s,web_4096\n0,1000,1\n1,1001,2",
        "\"sample\",\"unix_s\",\"web_4096\"\n\"0\",\"1000\",\"1\"\n1, 1001, 2.0\n\n",
    ] {
        assert_eq!(read(same), Ok(plain.clone()), "{same:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Trace::open(Path::new("/nowhere/week.csv")).expect_err("nothing is there");
    assert_eq!(error.to_string(), "Can't read the trace /nowhere/week.csv: No such file or directory (os error 2)");
}

#[test]
fn a_file_is_read_by_its_path() {
    let path = std::env::temp_dir().join(format!("dynmem-trace-{}.csv", std::process::id()));
    fs::write(&path, "sample,unix_s,web_4096\n0,1000,1\n").expect("writable");
    let error = Trace::open(&path).expect_err("too few rows");
    fs::remove_file(&path).expect("it was just written");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: 1 rows below the header, and at least 2 are needed: their distance is the interval",
            path.display()
        )
    );
}

#[test]
fn a_reader_that_breaks_off_is_no_end_of_the_trace() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let rows = format!("{HEADER}\n0,1000,1,1\n1,1001,1,1\n");
    let error = Trace::read(rows.as_bytes().chain(Broken), "week.csv").expect_err("it broke off");
    assert_eq!(error.to_string(), "Can't read the trace week.csv: the disk is gone");
}

#[test]
fn a_file_without_end_is_refused() {
    let error = Trace::read(io::repeat(b'0'), "/dev/zero").expect_err("endless");
    assert_eq!(
        error.to_string(),
        "The trace /dev/zero is larger than 256MiB, the most that is read: leave out VMs or samples"
    );
}

#[test]
fn the_header_must_be_there() {
    let rule = "is no header: begin the file with `sample,unix_s` and a column `<name>_<MiB>` for each VM, with \
                commas between them";
    for (text, found) in [
        ("", ""),
        ("0,1000,1,1\n1,1001,1,1\n", "0,1000,1,1"),
        ("sample,unix_s\n0,1000\n", "sample,unix_s"),
        ("unix_s,sample,web_4096\n", "unix_s,sample,web_4096"),
        ("sample;unix_s;web_4096\n", "sample;unix_s;web_4096"),
        ("sample,web_4096,unix_s\n", "sample,web_4096,unix_s"),
    ] {
        assert_eq!(read(text).expect_err(text), format!("week.csv, line 1: {found:?} {rule}"));
    }
}

#[test]
fn what_an_error_quotes_is_short() {
    let error = read(&"x".repeat(1000)).expect_err("no header");
    assert!(error.contains(&format!("{:?} is no header", format!("{}…", "x".repeat(40)))), "{error}");
}

#[test]
fn a_vms_column_says_its_size() {
    let rule = "does not end in the VM's size: name the column `<name>_<MiB>`, for example web_4096";
    for column in ["web", "web_", "web_4G", "web_-1", "web_+1", "web_1.5", "", "4096"] {
        assert_eq!(refused_header(column), format!("week.csv, line 1, column 3: {column:?} {rule}"));
    }
}

#[test]
fn a_vms_size_is_one_that_vms_have() {
    for column in ["web_0", "web_33554433", "web_99999999999999999999999"] {
        assert_eq!(
            refused_header(column),
            format!("week.csv, line 1, column 3: {column:?} has a size that no VM has: 1 to 33554432 MiB")
        );
    }
    assert!(read("sample,unix_s,web_33554432\n0,1,1\n1,2,1\n").is_ok());
}

#[test]
fn a_vms_name_can_be_printed() {
    let long = format!("{}_4096", "x".repeat(64));
    let shown = format!("{}…", "x".repeat(40));
    let rule = "has no valid name before its size: 1 to 63 letters, digits, `-`, `_` and `.`";
    for (column, shown) in [("_4096", "_4096"), ("a b_1", "a b_1"), ("\u{1b}[2J_1", "\u{1b}[2J_1"), (&long, &shown)] {
        assert_eq!(refused_header(column), format!("week.csv, line 1, column 3: {shown:?} {rule}"));
    }
    let longest = "x".repeat(63);
    assert!(read(&format!("sample,unix_s,{longest}_4096\n0,1,1\n1,2,1\n")).is_ok());
}

#[test]
fn a_vm_has_one_column() {
    assert_eq!(
        refused_header("web_4096,db_1,web_2048"),
        "week.csv, line 1, column 5: \"web_2048\" is a second column for the VM web, after column 3: rename one, or \
         leave it out"
    );
}

#[test]
fn columns_are_counted_before_they_are_read() {
    let wide = format!("{HEADER}{}", ",x".repeat(9_997));
    let rule = "10001 columns, and at most 10000 are read: leave out VMs";
    assert_eq!(read(&wide).expect_err("too wide"), format!("week.csv, line 1: {rule}"));
    assert_eq!(refusal(&"0,".repeat(10_000)), format!("week.csv, line 2: {rule}"));
    let columns = (0..9_998).map(|vm| format!("vm{vm}_1")).collect::<Vec<_>>().join(",");
    let row = ",1".repeat(9_998);
    assert!(read(&format!("sample,unix_s,{columns}\n0,1{row}\n1,2{row}\n")).is_ok(), "10000 are allowed");
}

#[test]
fn a_row_has_one_cell_for_each_column() {
    let rule = "give each column one value, with a point before its fraction";
    assert_eq!(refusal("0,1000,1,1\n1,1001,1\n"), format!("week.csv, line 3: 3 cells, and the header has 4: {rule}"));
    assert_eq!(refusal("0,1000,1,1,5\n"), format!("week.csv, line 2: 5 cells, and the header has 4: {rule}"));
}

#[test]
fn a_gap_is_not_filled_silently() {
    let rule = "\"\" is a gap: fill it, for example with the value before";
    assert_eq!(refusal("0,1000,1,\n"), format!("week.csv, line 2, column 4 (db-1_16384): {rule}"));
    assert_eq!(refusal("0,,1,1\n"), format!("week.csv, line 2, column 2 (unix_s): {rule}"));
}

#[test]
fn empty_lines_are_skipped_and_counted() {
    let text = format!("{HEADER}\n\n0,1000,1,1\n\n\n1,1001,1,\n");
    for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        let error = read(&text).expect_err("a gap");
        assert!(error.starts_with("week.csv, line 6, column 4"), "{text:?}: {error}");
    }
}

#[test]
fn a_value_is_a_number() {
    for value in ["x", "NaN", "-nan", "1G", "0x10", "1 2", "1\u{e9}"] {
        assert_eq!(
            refusal(&format!("0,1000,1,1\n1,1001,{value},1\n")),
            format!(
                "week.csv, line 3, column 3 (web_4096): {value:?} is no number: write MiB, for example 812 or 812.5"
            )
        );
    }
}

#[test]
fn a_value_is_not_negative() {
    for value in ["-1", "-0.0001", "-inf"] {
        assert_eq!(
            refusal(&format!("0,1000,{value},1\n")),
            format!("week.csv, line 2, column 3 (web_4096): {value:?} is negative: memory in use is 0 or more MiB")
        );
    }
}

#[test]
fn a_value_can_be_true() {
    for value in ["65536.001", "850000000", "1e300", "inf"] {
        assert_eq!(
            refusal(&format!("0,1000,{value},1\n")),
            format!(
                "week.csv, line 2, column 3 (web_4096): {value:?} is above 64GiB, the most that is believed of a VM of \
                 4GiB: write MiB, or correct the VM's size"
            )
        );
    }
    assert!(read(&format!("{HEADER}\n0,1,65536,1\n1,2,1,1\n")).is_ok(), "sixteen times the size is believed");
    assert!(
        read("sample,unix_s,big_16777216\n0,1,33554433\n").expect_err("above 32 TiB").contains("is above 32TiB"),
        "no VM has more"
    );
}

#[test]
fn a_time_is_in_whole_seconds() {
    for value in ["yesterday", "1.5", "-1", "1376265600000", "99999999999999999999"] {
        assert_eq!(
            refusal(&format!("0,{value},1,1\n")),
            format!(
                "week.csv, line 2, column 2 (unix_s): {value:?} is no time: write whole seconds since 1970, at most \
                 253402300799 (the year 9999)"
            )
        );
    }
}

#[test]
fn time_goes_forward() {
    for time in ["1000", "999"] {
        assert_eq!(
            refusal(&format!("0,1000,1,1\n1,{time},1,1\n")),
            format!(
                "week.csv, line 3, column 2 (unix_s): {time:?} is not after the row before (1000): sort the rows by \
                 time, each only once"
            )
        );
    }
}

#[test]
fn time_goes_in_even_steps() {
    assert_eq!(
        refusal("0,1000,1,1\n1,1300,1,1\n2,1900,1,1\n"),
        "week.csv, line 4, column 2 (unix_s): \"1900\" is 600 s after the row before, and the first two rows are 300 s \
         apart: sample evenly"
    );
}

#[test]
fn without_two_rows_there_is_no_interval() {
    let rule = "below the header, and at least 2 are needed: their distance is the interval";
    assert_eq!(refusal(""), format!("week.csv: 0 rows {rule}"));
    assert_eq!(refusal("0,1000,1,1"), format!("week.csv: 1 rows {rule}"));
}

/// Pieces of traces, and what breaks them.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![
        Just(&b"sample,unix_s,a_1"[..]),
        Just(&b"sample,unix_s,a_1,b_2\n0,1,1,1\n1,2,"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b","[..]),
        Just(&b"\""[..]),
        Just(&b"0"[..]),
        Just(&b"1,2"[..]),
        Just(&b"-1e999"[..]),
        Just(&b"\xff\xfe\0"[..]),
        Just("\u{2028}…".as_bytes()),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_file_holds_makes_the_reader_panic(
        pieces in vec(piece(), 0..40),
        bytes in vec(any::<u8>(), 0..200),
    ) {
        for text in [pieces.concat(), bytes.clone(), [pieces.concat(), bytes].concat()] {
            match Trace::read(text.as_slice(), "random.csv") {
                Err(error) => prop_assert!(error.to_string().contains("random.csv")),
                Ok(trace) => {
                    prop_assert!(trace.interval_ms > 0 && !trace.vms.is_empty());
                    let rows = trace.vms[0].samples.len();
                    prop_assert!(rows >= 2 && trace.vms.iter().all(|vm| vm.samples.len() == rows));
                }
            }
        }
    }
}
