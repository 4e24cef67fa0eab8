//! The systemd driver: a container's cgroup is that of a scope (or slice) unit, which systemd is asked for over D-Bus.
//!
//! Properties are decided in `properties`, put into bytes in `wire`, and exchanged in `client`. This module holds the few
//! calls that make up the driver.

mod client;
mod properties;
mod variant;
mod wire;

use std::fmt;

use client::{Client, Reply};
pub(crate) use properties::{resource_properties, unit_properties};
use wire::Writer;

use crate::error::Error;
use crate::step::Bus;

/// A value of a property, in the types that systemd's resource properties have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `y`
    Byte(u8),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Str(String),
    /// `as`
    Strings(Vec<String>),
    /// `au`
    U32s(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
    /// `a(st)`
    Weights(Vec<(String, u64)>),
}

/// A property of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Name on the bus.
    pub name: String,
    /// Value.
    pub value: Value,
    /// First version of systemd that knows it; older ones are not told. What it says is written to the files as well.
    pub since: u32,
}

impl Property {
    pub(crate) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, since: 0 }
    }

    pub(crate) fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.name)?;
        match &self.value {
            Value::Bool(v) => write!(f, "{v}"),
            Value::Byte(v) => write!(f, "{v}"),
            Value::I32(v) => write!(f, "{v}"),
            Value::U32(v) => write!(f, "{v}"),
            Value::I64(v) => write!(f, "{v}"),
            Value::U64(u64::MAX) => f.write_str("infinity"),
            Value::U64(v) => write!(f, "{v}"),
            Value::F64(v) => write!(f, "{v}"),
            Value::Str(v) => f.write_str(v),
            Value::Strings(v) => write!(f, "{v:?}"),
            Value::U32s(v) => write!(f, "{v:?}"),
            Value::Bytes(v) => v.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Value::Pairs(v) => {
                v.iter().enumerate().try_for_each(|(i, (a, b))| write!(f, "{}{a} {b}", if i == 0 { "" } else { ";" }))
            }
            Value::Weights(v) => {
                v.iter().enumerate().try_for_each(|(i, (a, b))| write!(f, "{}{a} {b}", if i == 0 { "" } else { ";" }))
            }
        }
    }
}

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long systemd may take for a job.
const JOB_SECONDS: u64 = 30;

/// Starts a transient unit with a process in it, and waits for the job.
pub(crate) fn start_unit(bus: Bus, unit: &str, properties: &[Property], pid: i32) -> Result<(), Error> {
    let mut client = Client::connect(bus)?;
    let pids = Property::new("PIDs", Value::U32s(vec![pid.unsigned_abs()]));
    let version = client.version_if_needed(properties)?;
    let mut body = Writer::default();
    body.string(unit);
    body.string("replace");
    let known = properties.iter().filter(|p| p.since <= version);
    // A slice holds no processes of its own.
    let pids = (!crate::path::is_slice(unit)).then_some(&pids);
    body.properties(known.chain(pids));
    body.array(8, |_| {}); // no auxiliary units
    let mut reply = client.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes())?;
    if reply.error_is("org.freedesktop.systemd1.UnitExists") {
        // What a container of that name left when it failed goes away when the failure is forgotten.
        reset(&mut client, unit)?;
        reply = client.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes())?;
        if reply.error_is("org.freedesktop.systemd1.UnitExists") {
            return Err(Error::InUse { dir: unit.into(), why: "systemd has a unit of that name".to_owned() });
        }
    }
    let fail = |why: String| Error::Systemd { call: "StartTransientUnit", unit: unit.to_owned(), why };
    let job = reply.object_path().map_err(fail)?;
    match client.wait_for_job(&job, JOB_SECONDS)?.as_str() {
        "done" => Ok(()),
        other => {
            reset(&mut client, unit)?;
            Err(fail(format!("the job ended as {other:?}; see the journal")))
        }
    }
}

/// Stops a unit and waits for the job, then forgets a failure. A unit that is not there is fine.
pub(crate) fn stop_unit(bus: Bus, unit: &str) -> Result<(), Error> {
    let mut client = Client::connect(bus)?;
    let mut body = Writer::default();
    body.string(unit);
    body.string("replace");
    let reply = client.call(MANAGER, "StopUnit", "ss", body.bytes())?;
    if reply.error_is("org.freedesktop.systemd1.NoSuchUnit") {
        return Ok(());
    }
    let job = reply.object_path().map_err(|why| Error::Systemd { call: "StopUnit", unit: unit.to_owned(), why })?;
    client.wait_for_job(&job, JOB_SECONDS)?;
    reset(&mut client, unit)
}

/// Changes properties of a unit until the next boot.
pub(crate) fn set_unit(bus: Bus, unit: &str, properties: &[Property]) -> Result<(), Error> {
    let mut client = Client::connect(bus)?;
    let version = client.version_if_needed(properties)?;
    let mut body = Writer::default();
    body.string(unit);
    body.boolean(true);
    body.properties(properties.iter().filter(|p| p.since <= version));
    let reply = client.call(MANAGER, "SetUnitProperties", "sba(sv)", body.bytes())?;
    reply.done().map_err(|why| Error::Systemd { call: "SetUnitProperties", unit: unit.to_owned(), why })
}

/// The cgroup of the user's service manager, as `/user.slice/user-1000.slice/user@1000.service`.
pub fn user_manager() -> Result<String, Error> {
    Client::connect(Bus::User)?.manager_property("ControlGroup")
}

fn reset(client: &mut Client, unit: &str) -> Result<(), Error> {
    let mut body = Writer::default();
    body.string(unit);
    // It fails when there is nothing to forget, which is as well.
    let _: Reply = client.call(MANAGER, "ResetFailedUnit", "s", body.bytes())?;
    Ok(())
}
