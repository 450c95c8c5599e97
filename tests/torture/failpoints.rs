//! Where the actors of an armed process panic and fail.

use fastrand::Rng;

/// In a producer: one failure of each kind in about half a minute at 150 checks a second.
const PRODUCER: &str = "site::check=0.02%panic(torture)->0.02%return;\
    sites::reload=15%panic(torture);\
    publisher::publish=0.01%panic(torture);\
    publisher::idle_fault=0.01%return;\
    publisher::commit=0.2%panic(torture);\
    settings::reload=15%panic(torture);\
    settings::fault=15%return";

/// In a consumer.
const CONSUMER: &str = "consumer::turn=0.01%panic(torture);\
    consumer::fault=0.01%return;\
    writer::store=0.5%panic(torture);\
    writer::fault=0.5%return;\
    writer::before_commit=0.5%panic(torture)->2%sleep(300);\
    housekeeping::work=20%panic(torture);\
    housekeeping::rollup=3%panic(torture);\
    settings::reload=15%panic(torture);\
    settings::fault=15%return";

/// What the panics say.
pub(crate) const MESSAGE: &str = "torture";

/// The value of `FAILPOINTS` for a process with this role: its failures if it is `armed`, and a jump of its clock by so many
/// seconds some time after its start.
pub(crate) fn of(producer: bool, armed: bool, jump: Option<i32>, rng: &mut Rng) -> String {
    let mut points = Vec::new();
    if armed {
        points.push(if producer { PRODUCER } else { CONSUMER }.to_owned());
    }
    if let Some(seconds) = jump {
        let (readings, micros) = (rng.u32(500..4000), i64::from(seconds) * 1_000_000);
        points.push(format!("clock::set={readings}*off->return({micros})"));
    }
    points.join(";")
}
