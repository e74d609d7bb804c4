//! Compiles the .proto files with protox, so that no protoc is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "proto/proc.proto",
        "proto/control.proto",
        "proto/member.proto",
        "proto/raft.proto",
        "proto/join.proto",
        "proto/order.proto",
        "proto/job.proto",
        "proto/checkpoint.proto",
        "proto/checkpoint_service.proto",
        "proto/capability.proto",
        "proto/view.proto",
    ];
    let fds = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure().compile_fds(fds)?;
    for p in protos {
        println!("cargo:rerun-if-changed={p}");
    }
    Ok(())
}
