//! The counters as a page of the documentation, `docs/counters.md`.

use std::fmt::Write as _;

use super::{CounterSet, Kind, Unit, all};

const HEAD: &str = "\
# Counters

Every number that dynmem gives. This page is made from the table in `crates/api/src/counters`
that the programs read, too; after a change there, `DYNMEM_REFRESH=1 cargo test -p dynmem-api`
writes it anew.

```sh
dynmem counters                                  # all, now
dynmem counters 'web*' '*Pressure'               # the pressures of some VMs
dynmem counters '*Pressure' --interval 5 --samples 3
curl --unix-socket /run/dynmem/dynmem.sock 'http://dynmem/v1/counters?pattern=web01,*Pressure'
curl --unix-socket /run/dynmem/dynmem.sock http://dynmem/metrics
```

`dynmem counters` shows sizes in MB (2²⁰ bytes) and shares in per cent; `--json` and
`GET /v1/counters` have whole bytes and per cent, Prometheus has bytes and parts of one.
A *cumulative* counter only rises: a VM's until its machine is started anew, the host's until
the daemon is. A counter without a number, such as the pressure of a VM that is off, is left out.
";

/// The page.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for set in CounterSet::ALL {
        let of = match set {
            CounterSet::Balancer => "One of each, for the host: instance `System Balancer`.",
            CounterSet::Vm => "One for each VM; in Prometheus the label `vm` names it.",
            CounterSet::IntegrationService => "What the guest is told of itself, for each VM.",
        };
        let _ = write!(page, "\n## {set}\n\n{of}\n\n| counter | unit | kind | Prometheus | |\n|---|---|---|---|---|\n");
        for counter in all().filter(|counter| counter.set == set) {
            let kind = match counter.kind {
                Kind::Gauge => "gauge",
                Kind::Cumulative => "cumulative",
            };
            let unit = match counter.unit {
                Unit::Level => "",
                unit => unit.symbol(),
            };
            let (name, metric, help) = (counter.name, counter.prometheus, counter.help);
            let _ = writeln!(page, "| {name} | {unit} | {kind} | `{metric}` | {help} |"); // a String takes everything
        }
    }
    page
}
