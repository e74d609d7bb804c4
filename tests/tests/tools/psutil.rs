//! psutil, with the root of its /proc told to it, and on /proc itself.

use super::cast::{Cast, NODES, Process, cpus, cpus_of_node_3, everybody, gpid, memory, native};
use super::checks::Checks;
use super::table::{field, words};
use krg_tests::Lab;
use serde_json::Value;
use std::collections::BTreeSet;

const SCRIPT: &str = include_str!("psutil_all.py");
const PYTHON: &str = "/usr/bin/python3";

/// All of it, outside and inside of krg exec.
pub fn all(checks: &mut Checks, lab: &Lab, cast: &Cast) {
    let inside = ["krg", "exec", "--", PYTHON, "-c", SCRIPT, "/proc"];
    let outside = [PYTHON, "-c", SCRIPT, "/cluster/proc"];
    for (where_, command) in [("outside", &outside[..]), ("inside", &inside[..])] {
        let mut told = Value::Null;
        checks.check(&format!("psutil {where_}: runs"), || {
            let said = lab.exec(1, command).ok();
            told = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        });
        if told.is_null() {
            continue;
        }
        let told = &told;
        let mut named =
            |name: &str, body: &dyn Fn()| checks.check(&format!("psutil {where_}: {name}"), body);
        named("every process", &|| processes(lab, told));
        named("the cast", &|| people(lab, cast, told));
        named("the system", &|| system(lab, told));
        named("devices", &|| devices(lab, told));
    }
    checks.check("psutil inside: what only system calls tell", || {
        let line = "import psutil, sys; p = psutil.Process(int(sys.argv[1])); \
            print(p.nice(), p.cpu_affinity(), psutil.pid_exists(p.pid))";
        let pid = lab.background(3, "exec nice -n 7 taskset -c 1 sleep 86007");
        let pid = gpid(3, pid).to_string();
        let cpu = cpus_of_node_3(lab).start + 1;
        krg_tests::within(super::cast::SOON, || {
            let said = lab.exec(1, &["krg", "exec", "--", PYTHON, "-c", line, &pid]);
            let wanted = format!("7 [{cpu}] True\n");
            if said.out == wanted { Ok(()) } else { Err(format!("{said:?}, not {wanted}")) }
        });
    });
    checks.check("psutil: cpu time grows", || {
        let line = "import psutil, sys; psutil.PROCFS_PATH = '/cluster/proc'; \
            print(sum(psutil.Process(int(sys.argv[1])).cpu_times()[:2]))";
        let pid = cast.burner.gpid().to_string();
        let look =
            || lab.exec(1, &[PYTHON, "-c", line, &pid]).ok().trim().parse::<f64>().unwrap();
        let first = look();
        krg_tests::within(super::cast::SOON, || match look() {
            later if later > first => Ok(()),
            later => Err(format!("{first} then {later}")),
        });
    });
}

/// All that runs for long is listed and described, and nothing of it failed.
#[track_caller]
fn processes(lab: &Lab, told: &Value) {
    let pids: Vec<u32> = serde_json::from_value(told["pids"].clone()).expect("pids");
    let unique: BTreeSet<u32> = pids.iter().copied().collect();
    assert_eq!(unique.len(), pids.len(), "one is there twice: {pids:?}");
    let missing: Vec<u32> = everybody(lab).difference(&unique).copied().collect();
    assert!(missing.is_empty(), "not there: {missing:?}");
    let all = told["processes"].as_object().expect("processes");
    let failed: Vec<_> = all.iter().filter(|(_, told)| !told["error"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let refused: Vec<_> = all
        .iter()
        // Process 1 has no file of its own that is run, and no place where it works.
        .filter(|(pid, told)| *pid != "1" && told["refused"] != serde_json::json!([]))
        .collect();
    assert!(refused.is_empty(), "root may read all: {refused:#?}");
    let inits: Vec<u32> = NODES.map(|node| gpid(node, 1)).collect();
    let children: Vec<u32> = serde_json::from_value(told["children"].clone()).expect("pids");
    let there = inits.iter().all(|init| children.contains(init));
    assert!(there, "{children:?} below process 1");
}

#[track_caller]
fn people(lab: &Lab, cast: &Cast, told: &Value) {
    let of = |process: &Process| {
        let told = &told["processes"][process.gpid().to_string()];
        assert_eq!(told["cmdline"], process.args.as_str(), "{process:?}");
        cast.assert_started(told["created"].as_f64().expect("a time"), &process.args);
        told
    };
    let burner = of(&cast.burner);
    assert_eq!((&burner["name"], &burner["username"]), (&"krgburn".into(), &"root".into()));
    assert_eq!(burner["ppid"], gpid(3, 1));
    assert_eq!(burner["exe"], "/usr/local/bin/krgburn");
    assert_eq!((&burner["cwd"], &burner["fds"]), (&"/".into(), &3.into()));
    let cpu = burner["cpu"].as_u64().expect("a cpu") as u32;
    assert!(cpus_of_node_3(lab).contains(&cpu), "cpu {cpu} is not node 3's");
    assert!(burner["busy"].as_f64() > Some(0.0) && burner["rss"].as_u64() > Some(0));
    assert!(burner["maps"].as_u64() > Some(3), "{burner}");
    let threads = of(&cast.threads);
    assert_eq!((&threads["threads"], &threads["num_threads"]), (&4.into(), &4.into()));
    assert_eq!(threads["username"], "daemon");
    let nobody = of(&cast.nobody);
    assert_eq!((&nobody["username"], &nobody["mark"]), (&"nobody".into(), &"mine".into()));
    assert_eq!(nobody["status"], "sleeping");
    for child in &cast.children {
        assert_eq!(of(child)["ppid"], cast.parent.gpid());
    }
    for sleeper in &cast.sleepers {
        of(sleeper);
    }
}

#[track_caller]
fn system(lab: &Lab, told: &Value) {
    assert_eq!(told["total"], memory(lab, "MemTotal") * 1024);
    assert_eq!(told["swap"], memory(lab, "SwapTotal") * 1024);
    let total: u32 = cpus(lab).iter().sum();
    assert_eq!(told["cpus"], total);
    let idle: Vec<f64> = serde_json::from_value(told["idle"].clone()).expect("times");
    let (sum, whole) = (idle.iter().sum::<f64>(), told["idle_sum"].as_f64().expect("a time"));
    assert!((sum - whole).abs() < 30.0, "{sum} by cpu, {whole} in sum");
    let earliest = native(lab, "stat").iter().map(|text| field(text, "btime")).min();
    let boot = told["boot"].as_f64().expect("a time");
    assert!((boot - earliest.expect("three") as f64).abs() <= 1.0, "{boot}, {earliest:?}");
}

/// Every node's devices, with its number in their names.
#[track_caller]
fn devices(lab: &Lab, told: &Value) {
    let listed = |name: &str| -> Vec<String> {
        serde_json::from_value(told[name].clone()).expect("names")
    };
    let (interfaces, disks) = (listed("interfaces"), listed("disks"));
    for node in NODES {
        assert!(interfaces.contains(&format!("n{node}-lo")), "{interfaces:?}");
    }
    for (node, text) in NODES.zip(native(lab, "diskstats")) {
        let names = text.lines().map(|line| format!("n{node}-{}", words(line)[2]));
        let missing: Vec<String> = names.filter(|name| !disks.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?} are not in {disks:?}");
    }
}
