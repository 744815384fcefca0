use clap::Parser;

use super::*;
use crate::args::Cli;

/// The words of a line as a shell parts them: quotes keep together, and vanish.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_word) = (Vec::new(), String::new(), None, false);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), end) if open == end => quote = None,
            (None, '"' | '\'') => (quote, is_word) = (Some(character), true),
            (None, ' ') => {
                if std::mem::take(&mut is_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, character) => {
                word.push(character);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

fn ours(line: &str) -> Result<Vec<String>, String> {
    let line = words(&format!("dynmem {line}"));
    match translate(&line).expect("a cmdlet") {
        Ok(Meaning::Lines { told, lines }) => {
            for line in &lines {
                let whole = std::iter::once("dynmem").chain(line.iter().map(String::as_str));
                Cli::try_parse_from(whole).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
            Ok(told.into_iter().chain(lines.into_iter().map(|line| line.join(" "))).collect())
        }
        Ok(Meaning::Help(_)) => panic!("{line:?} asks for no help"),
        Err(sentence) => Err(sentence),
    }
}

#[test]
fn the_lines_of_the_documents_are_understood_as_they_are() {
    for (theirs, expected) in [
        (
            "Set-VMMemory -VMName \"AppServer01\" -DynamicMemoryEnabled '$true' -StartupBytes 2GB -MinimumBytes 512MB \
             -MaximumBytes 8GB -Buffer 20",
            &["memory set --dynamic on --startup 2GiB --minimum 512MiB --maximum 8GiB --buffer 20 -- (?i)AppServer01"]
                [..],
        ),
        ("Get-VMMemory -VMName AppServer01", &["memory get -- (?i)AppServer01"]),
        ("Get-VM", &["vm list"]),
        ("Measure-VM -VMName web01", &["meter show -- (?i)web01"]),
        ("Measure-VM -Name web01", &["meter show -- (?i)web01"]),
        (
            r#"Get-Counter -Counter "\Hyper-V Dynamic Memory VM(*)\Average Pressure" -SampleInterval 5 -MaxSamples 3"#,
            &[r"counters --interval 5 --samples 3 -- \Hyper-V Dynamic Memory VM(*)\Average Pressure"],
        ),
        ("Set-VMMemory web01 -Priority 8000", &["memory set --weight 8000 -- (?i)web01"]),
        ("Start-VM -Name web01,db01", &["vm start -- (?i)web01 (?i)db01"]),
        ("Stop-VM 'Dev-*' -TurnOff", &["vm stop --force -- (?i)Dev-*"]),
        ("Stop-VM web01 -Save", &["vm save -- (?i)web01"]),
        ("Restart-VM web01 -Force", &["vm restart -- (?i)web01"]),
        ("Get-VMHost", &["host"]),
        ("Enable-VMResourceMetering *", &["meter enable -- (?i)*"]),
        ("Disable-VMResourceMetering -VMName web01", &["meter disable --yes -- (?i)web01"]),
        ("Reset-VMResourceMetering -VMName web01", &["meter reset --yes -- (?i)web01"]),
        (
            "Set-VM -Name web01 -DynamicMemory -MemoryStartupBytes 1GB -MemoryMinimumBytes 512MB -MemoryMaximumBytes 4GB",
            &["memory set --dynamic on --startup 1GiB --minimum 512MiB --maximum 4GiB -- (?i)web01"],
        ),
        (
            "Set-VM web01 -StaticMemory -AutomaticStartAction StartIfRunning -AutomaticStartDelay 30",
            &[
                "memory set --dynamic off -- (?i)web01",
                "vm set --autostart start-if-running --start-delay 30 -- (?i)web01",
            ],
        ),
        ("Set-VM web01 -AutomaticStartAction start", &["vm set --autostart start -- (?i)web01"]),
        ("Get-Counter -ListSet '*Dynamic Memory*'", &["counters --list -- *Dynamic Memory*"]),
        ("Get-Counter '*Pressure' -SampleInterval 5", &["counters --interval 5 --samples 1 -- *Pressure"]),
        ("Get-Counter '*Pressure' -Continuous", &["counters --interval 1 -- *Pressure"]),
    ] {
        assert_eq!(ours(theirs).expect(theirs), expected, "{theirs}");
    }
}

#[test]
fn words_are_read_as_powershell_reads_them() {
    for (theirs, expected) in [
        ("get-vmmemory -vmname A", "memory get -- (?i)A"),
        ("set-VMMEMORY A -dyn:$false -max 2gb -b 30", "memory set --dynamic off --maximum 2GiB --buffer 30 -- (?i)A"),
        ("Set-VMMemory A -DynamicMemoryEnabled 1", "memory set --dynamic on -- (?i)A"),
        ("Start-VM a, b ,c", "vm start -- (?i)a (?i)b (?i)c"),
        ("Start-VM -Passthru -Name a", "vm start -- (?i)a"),
        ("Stop-VM a -Confirm:$false -Force", "vm stop -- (?i)a"),
        ("--json Get-VM a", "--json vm list -- (?i)a"),
        ("--socket /x Get-VM --json", "--socket /x --json vm list"),
        ("--url https://h --ca=/c Get-VM --json", "--url https://h --ca=/c --json vm list"),
        (
            r"Get-Counter '\Hyper-V Dynamic Memory Integration Service\Maximum Memory, Mbytes','*Pressure'",
            r"counters -- \Hyper-V Dynamic Memory Integration Service\Maximum Memory *Pressure",
        ),
    ] {
        assert_eq!(ours(theirs).expect(theirs), [expected], "{theirs}");
    }
}

#[test]
fn what_loses_something_asks_first_unless_it_is_told_not_to() {
    for (theirs, expected) in [
        ("Stop-VM A -TurnOff", "vm stop --force -- (?i)A"),
        ("Stop-VM A -TurnOff -Confirm", "vm stop --force -- (?i)A"),
        ("Stop-VM A -TurnOff -Force", "vm stop --force --yes -- (?i)A"),
        ("Stop-VM A -TurnOff -Confirm:$false", "vm stop --force --yes -- (?i)A"),
        ("Stop-VM A -Save -Force", "vm save -- (?i)A"),
        ("Remove-VM A", "vm delete -- (?i)A"),
        ("Remove-VM A -Force", "vm delete --yes -- (?i)A"),
        ("Remove-VM A -Force:$false -Confirm:$true", "vm delete -- (?i)A"),
    ] {
        assert_eq!(ours(theirs).expect(theirs), [expected], "{theirs}");
    }
}

#[test]
fn what_if_tries_what_can_be_tried_and_tells_the_rest() {
    for (theirs, expected) in [
        ("Set-VMMemory A -WhatIf -Buffer 20", &["memory set --buffer 20 --dry-run -- (?i)A"][..]),
        ("Start-VM A -WhatIf", &["vm start --dry-run -- (?i)A"]),
        ("Start-VM A -WhatIf:$false", &["vm start -- (?i)A"]),
        (
            "Stop-VM Dev-* -TurnOff -Force -WhatIf",
            &["What if: dynmem vm stop --force --yes -- '(?i)Dev-*' would be done. Nothing was"],
        ),
        (
            "Set-VM A -MemoryStartupBytes 1GB -AutomaticStartDelay 5 -WhatIf",
            &[
                "What if: dynmem vm set --start-delay 5 -- '(?i)A' would be done. Nothing was",
                "memory set --startup 1GiB --dry-run -- (?i)A",
            ],
        ),
    ] {
        assert_eq!(ours(theirs).expect(theirs), expected, "{theirs}");
    }
}

#[test]
fn a_link_of_a_cmdlets_name_is_that_cmdlet() {
    let line = words("/usr/local/bin/Get-VMMemory web01 --json");
    let expected = vec![words("--json memory get -- (?i)web01")];
    assert_eq!(translate(&line), Some(Ok(Meaning::Lines { told: Vec::new(), lines: expected })));
}

#[test]
fn our_own_lines_are_left_alone() {
    for line in
        ["dynmem vm list", "dynmem --json host", "dynmem", "dynmem --socket Get-VM host", "dynmem vm start Get-VM"]
    {
        assert_eq!(translate(&words(line)), None, "{line}");
    }
}

#[test]
fn what_is_not_understood_says_why_and_what_to_write() {
    for (theirs, sentence) in [
        (
            "Set-VMMemory A -Priority 80",
            "weight 8000 here: write -Priority 8000. As a weight from 1 to 10000 it would be 80",
        ),
        ("Set-VMMemory A -Priority 100", "write -Priority 10000"),
        ("Set-VMMemory A -Priority 0", "weight 1 here"),
        ("Set-VMMemory A -Priority 10001", "Weight 10001 is out of range"),
        (
            "Set-VMMemory A -DynamicMemoryEnabled -StartupBytes 2GB",
            "the shell has replaced it by nothing: quote it ('$true')",
        ),
        ("Set-VMMemory A -DynamicMemoryEnabled ''", "the shell has replaced it by nothing"),
        ("Set-VMMemory A -DynamicMemoryEnabled maybe", "neither $true nor $false"),
        (
            "Set-VMMemory A -StartupByts 2GB",
            "Set-VMMemory has no parameter -StartupByts here: did you mean -StartupBytes?",
        ),
        ("Set-VMMemory A -M 2GB", "-M may be -MinimumBytes or -MaximumBytes"),
        ("Set-VMMemory A -StartupBytes much", "-StartupBytes: \"much\" is not a size"),
        ("Set-VMMemory A -Buffer 4", "-Buffer \"4\" is out of range: write a whole number from 5 to 2000"),
        ("Set-VMMemory A -Buffer 20 -Buffer 30", "-Buffer is given twice"),
        ("Set-VMMemory A -MaximumBytes", "-MaximumBytes needs a value"),
        ("Set-VMMemory -Buffer 20", "Set-VMMemory needs the name of a VM"),
        ("Set-VMMemory A", "Set-VMMemory changes nothing"),
        ("Set-VMMemory A B -Buffer 20", "Set-VMMemory has no use for \"B\""),
        ("Restart-VM A -Confirm", "nobody is asked here, as nothing is lost"),
        ("Stop-VM A -Confirm", "nobody is asked here, as nothing is lost"),
        ("Get-VM -ComputerName host2", "it is about this host"),
        ("Start-VM '[ab]'", "is not a pattern of VM names"),
        ("Set-VM A -AutomaticStartAction Sometimes", "is none of Nothing, StartIfRunning, Start"),
        ("Get-VMMemroy A", "did you mean Get-VMMemory?"),
        ("Remove-Item x", "is not one of the cmdlets that are understood here"),
    ] {
        let error = ours(theirs).expect_err(theirs);
        assert!(error.contains(sentence), "{theirs}: {error}");
    }
}

#[test]
fn every_cmdlet_explains_itself_and_is_in_the_guide() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/from-hyper-v.md"));
    let guide = guide.expect("the guide is there");
    for cmdlet in CMDLETS {
        let line = words(&format!("dynmem {} -?", cmdlet.name));
        let Some(Ok(Meaning::Help(text))) = translate(&line) else { panic!("{}", cmdlet.name) };
        assert!(guide.contains(&format!("`{}", cmdlet.name)), "{} is not in docs/from-hyper-v.md", cmdlet.name);
        for parameter in cmdlet.parameters {
            let is_refused = matches!(parameter.becomes, Becomes::Refused(_));
            assert_ne!(text.contains(&format!("-{}", parameter.name)), is_refused, "{text}");
            let is_told = guide.contains(&format!("-{}", parameter.name));
            assert!(is_refused || is_told, "-{} is not in docs/from-hyper-v.md", parameter.name);
        }
        let example = ours(cmdlet.example);
        assert!(example.is_ok(), "{}: {example:?}", cmdlet.example);
    }
}
