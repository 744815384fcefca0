//! The table: each cmdlet with its parameters, and what they are here.

use super::words::{
    Arguments, Becomes, Cmdlet, Parameter,
    Takes::{self, Bool, Choice, List, Number, Priority, Size, Switch, Text},
};

const fn parameter(name: &'static str, takes: Takes, becomes: Becomes) -> Parameter {
    Parameter { name, aliases: &[], takes, becomes, is_positional: false }
}

/// The VMs: `-VMName` of some cmdlets, `-Name` of others; both are understood.
const NAMES: Parameter =
    Parameter { name: "VMName", aliases: &["Name"], takes: List, becomes: Becomes::Names, is_positional: true };
const COMPUTER: Parameter = parameter(
    "ComputerName",
    Text,
    Becomes::Refused("it is about this host; another one is asked there, or by its URL (--url)"),
);
const ID: Parameter = parameter("Id", Text, Becomes::Refused("VMs are found by name: write -VMName"));
const JOB: Parameter = parameter("AsJob", Switch, Becomes::Refused("let the shell run it in the background, with &"));
/// Nothing is done; `safety` sees to it.
const WHAT_IF: Parameter = parameter("WhatIf", Switch, Becomes::Nothing);
/// What is shown, and not asked, in any case.
const PASSTHRU: Parameter = parameter("Passthru", Switch, Becomes::Nothing);
/// Whether who loses something is asked first; `safety` sees to it.
const CONFIRM: Parameter = parameter("Confirm", Switch, Becomes::Nothing);
const FORCE: Parameter = parameter("Force", Switch, Becomes::Nothing);

const fn option(name: &'static str, takes: Takes, ours: &'static str) -> Parameter {
    parameter(name, takes, Becomes::Option(0, ours))
}

const SET_MEMORY: &[&str] = &["memory", "set"];

/// Every cmdlet that is understood.
pub(super) static CMDLETS: &[Cmdlet] = &[
    Cmdlet {
        name: "Get-VM",
        commands: &[&["vm", "list"]],
        parameters: &[NAMES, ID, COMPUTER],
        needs_names: false,
        needs_change: false,
        finish: None,
        example: "Get-VM 'Dev-*'",
    },
    Cmdlet {
        name: "Start-VM",
        commands: &[&["vm", "start"]],
        parameters: &[NAMES, PASSTHRU, CONFIRM, WHAT_IF, JOB, COMPUTER],
        needs_names: true,
        needs_change: false,
        finish: None,
        example: "Start-VM web01,db01",
    },
    Cmdlet {
        name: "Stop-VM",
        commands: &[&["vm", "stop"]],
        parameters: &[
            NAMES,
            parameter("TurnOff", Switch, Becomes::Words(0, &["--force"])),
            parameter("Save", Switch, Becomes::Command(&["vm", "save"])),
            FORCE,
            PASSTHRU,
            CONFIRM,
            WHAT_IF,
            JOB,
            COMPUTER,
        ],
        needs_names: true,
        needs_change: false,
        finish: None,
        example: "Stop-VM web01 -TurnOff",
    },
    Cmdlet {
        name: "Restart-VM",
        commands: &[&["vm", "restart"]],
        parameters: &[
            NAMES,
            parameter("Type", Choice(&[("Reboot", ""), ("Reset", "")]), Becomes::Nothing),
            parameter("Wait", Switch, Becomes::Nothing),
            FORCE,
            PASSTHRU,
            CONFIRM,
            WHAT_IF,
            JOB,
            COMPUTER,
        ],
        needs_names: true,
        needs_change: false,
        finish: None,
        example: "Restart-VM web01 -Force",
    },
    Cmdlet {
        name: "Remove-VM",
        commands: &[&["vm", "delete"]],
        parameters: &[NAMES, FORCE, PASSTHRU, CONFIRM, WHAT_IF, JOB, COMPUTER],
        needs_names: true,
        needs_change: false,
        finish: None,
        example: "Remove-VM web01 -Force",
    },
    Cmdlet {
        name: "Get-VMMemory",
        commands: &[&["memory", "get"]],
        parameters: &[NAMES, COMPUTER],
        needs_names: false,
        needs_change: false,
        finish: None,
        example: "Get-VMMemory -VMName web01",
    },
    Cmdlet {
        name: "Set-VMMemory",
        commands: &[SET_MEMORY],
        parameters: &[
            NAMES,
            option("DynamicMemoryEnabled", Bool, "--dynamic"),
            option("StartupBytes", Size, "--startup"),
            option("MinimumBytes", Size, "--minimum"),
            option("MaximumBytes", Size, "--maximum"),
            option("Buffer", Number(5, 2000), "--buffer"),
            option("Priority", Priority, "--weight"),
            parameter(
                "MaximumAmountPerNumaNodeBytes",
                Size,
                Becomes::Refused("a VM has one NUMA node here, with all of its memory"),
            ),
            PASSTHRU,
            CONFIRM,
            WHAT_IF,
            COMPUTER,
        ],
        needs_names: true,
        needs_change: true,
        finish: None,
        example: "Set-VMMemory web01 -DynamicMemoryEnabled '$true' -MaximumBytes 8GB -Buffer 20",
    },
    Cmdlet {
        name: "Set-VM",
        commands: &[SET_MEMORY, &["vm", "set"]],
        parameters: &[
            NAMES,
            parameter("DynamicMemory", Switch, Becomes::Words(0, &["--dynamic", "on"])),
            parameter("StaticMemory", Switch, Becomes::Words(0, &["--dynamic", "off"])),
            option("MemoryStartupBytes", Size, "--startup"),
            option("MemoryMinimumBytes", Size, "--minimum"),
            option("MemoryMaximumBytes", Size, "--maximum"),
            option("SmartPagingFilePath", Text, "--smart-paging-folder"),
            parameter(
                "AutomaticStartAction",
                Choice(&[("Nothing", "nothing"), ("StartIfRunning", "start-if-running"), ("Start", "start")]),
                Becomes::Option(1, "--autostart"),
            ),
            parameter("AutomaticStartDelay", Number(0, 86_400), Becomes::Option(1, "--start-delay")),
            parameter(
                "ProcessorCount",
                Text,
                Becomes::Refused("edit vcpus in the VM's definition while it is off and the daemon is stopped"),
            ),
            PASSTHRU,
            CONFIRM,
            WHAT_IF,
            COMPUTER,
        ],
        needs_names: true,
        needs_change: true,
        finish: None,
        example: "Set-VM web01 -DynamicMemory -MemoryMaximumBytes 4GB",
    },
    Cmdlet {
        name: "Get-VMHost",
        commands: &[&["host"]],
        parameters: &[COMPUTER],
        needs_names: false,
        needs_change: false,
        finish: None,
        example: "Get-VMHost",
    },
    Cmdlet {
        name: "Measure-VM",
        commands: &[&["meter", "show"]],
        parameters: &[NAMES, COMPUTER],
        needs_names: false,
        needs_change: false,
        finish: None,
        example: "Measure-VM 'Dev-*'",
    },
    metering("Enable-VMResourceMetering", &[&["meter", "enable"]], "Enable-VMResourceMetering 'Dev-*'"),
    // Hyper-V asks nobody here.
    metering("Disable-VMResourceMetering", &[&["meter", "disable", "--yes"]], "Disable-VMResourceMetering web01"),
    metering("Reset-VMResourceMetering", &[&["meter", "reset", "--yes"]], "Reset-VMResourceMetering web01"),
    Cmdlet {
        name: "Get-Counter",
        commands: &[&["counters"]],
        parameters: &[
            Parameter { is_positional: true, ..parameter("Counter", List, Becomes::Patterns) },
            parameter("ListSet", List, Becomes::Patterns),
            option("SampleInterval", Number(1, 3600), "--interval"),
            option("MaxSamples", Number(1, u64::MAX), "--samples"),
            parameter("Continuous", Switch, Becomes::Nothing),
            COMPUTER,
        ],
        needs_names: false,
        needs_change: false,
        finish: Some(looks),
        example: r"Get-Counter '\Hyper-V Dynamic Memory VM(*)\Average Pressure' -SampleInterval 5 -MaxSamples 3",
    },
];

const fn metering(name: &'static str, commands: &'static [&'static [&'static str]], example: &'static str) -> Cmdlet {
    Cmdlet {
        name,
        commands,
        parameters: &[NAMES, PASSTHRU, COMPUTER],
        needs_names: true,
        needs_change: false,
        finish: None,
        example,
    }
}

/// Get-Counter looks once, however far apart looks would be, unless it is told
/// otherwise; we look without end.
fn looks(arguments: &Arguments, line: &mut Vec<String>) {
    let say = |line: &mut Vec<String>, words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    if arguments.has("ListSet") {
        say(line, &["--list"]);
    } else if arguments.has("Continuous") {
        if !arguments.has("SampleInterval") {
            say(line, &["--interval", "1"]);
        }
    } else if arguments.has("SampleInterval") && !arguments.has("MaxSamples") {
        say(line, &["--samples", "1"]);
    }
}
