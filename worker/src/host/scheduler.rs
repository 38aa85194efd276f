//! `cap:scheduler.manage`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::scheduler::Host;
use super::bindings::alga::extension::types::{
    CreateScheduleInput, CreateScheduleResult, DeleteScheduleResult, EndpointInfo, ScheduleInfo,
    SchedulerError, UpdateScheduleInput, UpdateScheduleResult,
};
use super::{RunState, host_call};

/// The words of the existing platform.
const DENIED: &str = "Permission denied: cap:scheduler.manage not granted";

impl Host for RunState {
    async fn list_schedules(&mut self) -> wasmtime::Result<Result<Vec<ScheduleInfo>, SchedulerError>> {
        host_call!(self, "scheduler.list-schedules", SchedulerManage, denied: Err(SchedulerError::Denied))
    }
    async fn get_schedule(
        &mut self,
        _schedule_id: String,
    ) -> wasmtime::Result<Result<Option<ScheduleInfo>, SchedulerError>> {
        host_call!(self, "scheduler.get-schedule", SchedulerManage, denied: Err(SchedulerError::Denied))
    }
    async fn create_schedule(
        &mut self,
        _input: CreateScheduleInput,
    ) -> wasmtime::Result<CreateScheduleResult> {
        host_call!(self, "scheduler.create-schedule", SchedulerManage, denied: CreateScheduleResult {
            success: false,
            schedule_id: None,
            error: Some(DENIED.to_owned()),
            field_errors: None,
        })
    }
    async fn update_schedule(
        &mut self,
        _schedule_id: String,
        _input: UpdateScheduleInput,
    ) -> wasmtime::Result<UpdateScheduleResult> {
        host_call!(self, "scheduler.update-schedule", SchedulerManage, denied: UpdateScheduleResult {
            success: false,
            error: Some(DENIED.to_owned()),
            field_errors: None,
        })
    }
    async fn delete_schedule(&mut self, _schedule_id: String) -> wasmtime::Result<DeleteScheduleResult> {
        host_call!(self, "scheduler.delete-schedule", SchedulerManage, denied: DeleteScheduleResult {
            success: false,
            error: Some(DENIED.to_owned()),
        })
    }
    async fn get_endpoints(&mut self) -> wasmtime::Result<Result<Vec<EndpointInfo>, SchedulerError>> {
        host_call!(self, "scheduler.get-endpoints", SchedulerManage, denied: Err(SchedulerError::Denied))
    }
}
