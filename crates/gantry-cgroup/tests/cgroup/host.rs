//! Cgroups that are gone when the test ends, however it ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gantry_cgroup::{CreatePlan, Error, Layout, Location, Request, execute_all, plan_create, plan_update};
use gantry_model::oci::linux::Resources;

/// Whether this test can run; says so if not.
pub fn root(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        eprintln!("SKIPPED {test}: it makes cgroups, and needs root");
    }
    root
}

pub fn resources(text: &str) -> Resources {
    serde_json::from_str(text).unwrap()
}

/// A container's cgroup with a process or two.
pub struct Container {
    pub layout: Layout,
    pub plan: CreatePlan,
    children: Vec<Child>,
}

impl Container {
    pub fn plan(name: &str, limits: &str) -> (Layout, CreatePlan) {
        let layout = Layout::detect_with_own().unwrap();
        let resources = resources(limits);
        let id = format!("gantry-test-{}-{name}", std::process::id());
        let path = format!("/{id}/box");
        let request = Request {
            id: &id,
            cgroups_path: &path,
            systemd: false,
            rootless: false,
            resources: Some(&resources),
            device_defaults: &[],
            owner: None,
            annotations: None,
            user_manager: None,
        };
        let plan = plan_create(&layout, &request).unwrap();
        (layout, plan)
    }

    pub fn make(name: &str, limits: &str) -> Result<Self, Error> {
        let (layout, plan) = Self::plan(name, limits);
        let mut container = Self { layout, plan, children: Vec::new() };
        container.plan.prepare()?;
        Ok(container)
    }

    pub fn location(&self) -> &Location {
        &self.plan.location
    }

    /// Runs a shell command in the cgroup.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let join = "while [ \"$1\" != - ]; do echo 0 > $1 || exit 99; shift; done; ";
        command.arg("-c").arg(format!("{join}{script}")).arg("sh").args(&self.plan.join_files);
        command.args(self.location().unified_dir().map(|dir| dir.join("cgroup.procs")));
        command.arg("-").stderr(Stdio::null());
        command
    }

    pub fn succeeds(&self, script: &str) -> bool {
        self.command(script).status().unwrap().success()
    }

    /// Starts a shell command in the cgroup, and waits until its process is there.
    pub fn start(&mut self, script: &str) -> i32 {
        let before = self.location().pids().unwrap().len();
        let child = self.command(script).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id().cast_signed();
        self.children.push(child);
        let all_in =
            || self.location().dirs().all(|dir| read(dir, "cgroup.procs").lines().any(|l| l == pid.to_string()));
        wait_until("the process to join", || all_in() && self.location().pids().unwrap().len() > before);
        pid
    }

    pub fn update(&self, limits: &str) -> Result<(), Error> {
        execute_all(&plan_update(&self.layout, self.location(), &resources(limits), &[])?, None)
    }

    /// The first line of a file of the cgroup.
    pub fn value(&self, controller: &str, file: &str) -> String {
        let dir = self.location().v1_dir(controller).or(self.location().unified_dir()).unwrap();
        read(dir, file).lines().next().unwrap_or_default().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.location().thaw();
        let _ = self.location().kill_all(9);
        for child in &mut self.children {
            let _ = child.wait();
        }
        let result = self.location().delete();
        for dir in self.location().dirs() {
            let _ = std::fs::remove_dir(dir.parent().unwrap());
        }
        if !std::thread::panicking() {
            result.unwrap();
            assert!(!self.location().exists());
        }
    }
}

pub fn read(dir: &Path, file: &str) -> String {
    std::fs::read_to_string(dir.join(file)).unwrap()
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
