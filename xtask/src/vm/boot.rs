//! One boot: qemu is started, the guest's output is passed on as it comes, and its status and files are fetched.

use super::image::Image;
use super::payload;
use super::{Boot, logs};
use crate::built::Binary;
use crate::sh;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What to run, and in which machine.
pub struct Request {
    pub boot: Boot,
    /// Memory of the machine, in MiB.
    pub memory: u32,
    /// After how many seconds the machine is ended.
    pub timeout: u64,
    /// The shell script to run.
    pub script: String,
    /// What is in the search path of the script.
    pub binaries: Vec<Binary>,
}

/// Boots, runs, and gives the status of the script. Each line of its output goes to `each_line` as it comes.
pub fn run(image: &Image, request: &Request, each_line: &mut dyn FnMut(&[u8])) -> Result<i32> {
    let logs = logs(request.boot);
    fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    let scratch = Scratch::new()?;
    let disk = scratch.0.join("payload.img");
    payload::write(request, &scratch.0.join("payload"), &disk).context("write the second disk")?;
    let mut qemu = qemu(image, request, &disk, &scratch.0, &logs);
    let mut child = qemu.spawn().context("start qemu-system-x86_64; `make setup` installs it")?;
    let ended_in_time = stream(&mut child, request.timeout, each_line);
    let status = child.wait().context("wait for qemu")?;
    let said = fs::read_to_string(scratch.0.join("status")).unwrap_or_default();
    if let Ok(code) = said.trim().parse() {
        fetch_results(&scratch.0.join("results"), &logs);
        return Ok(code);
    }
    let console = logs.join("console.log");
    show_console(&console);
    if fs::read(&console).is_ok_and(|text| String::from_utf8_lossy(&text).contains(PANIC)) {
        bail!("the kernel of the {} boot ended with a panic ({PANIC:?} in {})", request.boot.name(), console.display());
    }
    if !ended_in_time {
        bail!("the {} boot did not end within {} s", request.boot.name(), request.timeout);
    }
    bail!("the {} boot ended without a result ({status}); its console is in {}", request.boot.name(), logs.display())
}

/// What a kernel says when it gives up.
pub const PANIC: &str = "Kernel panic - not syncing";

/// Passes the guest's output on until it ends. If the time is over first, the machine is ended, and the answer is no.
fn stream(child: &mut Child, timeout: u64, each_line: &mut dyn FnMut(&[u8])) -> bool {
    let (sender, receiver) = channel();
    let Some(output) = child.stdout.take() else { return true };
    let reader = std::thread::spawn(move || read_lines(output, &sender));
    let deadline = std::time::Instant::now() + Duration::from_secs(timeout);
    let in_time = loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {
            Ok(line) => each_line(&line),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => {
                // An error means that it ended by itself just now.
                drop(child.kill());
                break false;
            }
        }
    };
    drop(reader.join());
    in_time
}

fn read_lines(output: impl std::io::Read, sender: &Sender<Vec<u8>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match output.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if sender.send(line).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// The command line of qemu. `setpriv` ends it with us, however we end.
fn qemu(image: &Image, request: &Request, payload: &Path, scratch: &Path, logs: &Path) -> Command {
    let mut qemu = sh::command("setpriv", &["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    let kernel_arguments = format!(
        "console=ttyS0 quiet loglevel=4 panic=-1 root=/dev/nvme0n1 rw rootwait init=/sbin/gantry-boot {}",
        request.boot.kernel_arguments()
    );
    let chardev = |id: &str, file: &Path| format!("file,id={id},path={}", file.display());
    let drive = |id: &str, file: &Path| {
        format!("file={},format=raw,if=none,id={id},snapshot=on,file.locking=off", file.display())
    };
    let memory = request.memory.to_string();
    qemu.args(["-accel", accelerator(), "-cpu", "max", "-smp", "2", "-m", &memory]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel").arg(&image.kernel).arg("-append").arg(kernel_arguments);
    // The kernel has a driver for the first disk built in, and a module, on that disk, for the second: so it cannot take
    // one for the other.
    for (id, file, driver) in [("root", image.disk.as_path(), "nvme"), ("payload", payload, "virtio-blk-pci")] {
        qemu.args(["-drive", &drive(id, file), "-device", &format!("{driver},drive={id},serial={id}")]);
    }
    qemu.args(["-chardev", &chardev("console", &logs.join("console.log")), "-serial", "chardev:console"]);
    qemu.args(["-device", "virtio-serial", "-chardev", &chardev("output", Path::new("/dev/stdout"))]);
    qemu.args(["-chardev", &chardev("status", &scratch.join("status"))]);
    qemu.args(["-chardev", &chardev("results", &scratch.join("results"))]);
    for id in ["output", "status", "results"] {
        qemu.args(["-device", &format!("virtserialport,chardev={id},name={id}")]);
    }
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    qemu
}

/// KVM if the processor has it and we may use it. A `/dev/kvm` without the processor's flag is an emulation of it that
/// does not carry a whole kernel. Emulated processors share one thread: with one each, a kernel that changes its own code
/// makes another run into the middle of an instruction now and then.
fn accelerator() -> &'static str {
    match std::env::var("GANTRY_VM_ACCEL").as_deref() {
        Ok("kvm") => return "kvm",
        Ok("tcg") => return "tcg,thread=single",
        _ => {}
    }
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags.split_whitespace().any(|word| word == "vmx" || word == "svm");
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if hardware && usable { "kvm" } else { "tcg,thread=single" }
}

/// Unpacks the files that the guest left, beside its console's log.
fn fetch_results(archive: &Path, logs: &Path) {
    let results = logs.join("results");
    drop(fs::remove_dir_all(&results));
    let unpacked = fs::create_dir_all(&results).map_err(Into::into).and_then(|()| {
        sh::run(sh::command("tar", &["-x", "--no-same-owner", "-C"]).arg(&results).arg("-f").arg(archive))
    });
    if let Err(error) = unpacked {
        eprintln!("vm: the guest's result files are lost: {error:#}");
    }
}

fn show_console(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("vm: the last lines of the console:");
    for line in &lines[lines.len().saturating_sub(25)..] {
        eprintln!("  {line}");
    }
}

/// A directory for the files of one boot, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        static NEXT: Mutex<u32> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *next += 1;
        let dir = sh::target_dir().join("vm").join(format!("scratch-{}-{next}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("vm: cannot remove {}: {error}", self.0.display());
        }
    }
}
