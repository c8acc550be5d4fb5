package api

import (
	"github.com/ingot-metal/ingot/controller/auth"
	"github.com/ingot-metal/ingot/proto/operator"
)

// Methods is the reviewed table: each method of the API and what it asks of its
// caller. A test fails when a method of the contract is missing.
func Methods() auth.Table {
	return auth.Table{
		operator.MachineService_MachineList_FullMethodName:       auth.Operator,
		operator.MachineService_MachineGet_FullMethodName:        auth.Operator,
		operator.MachineService_MachineAdd_FullMethodName:        auth.Operator,
		operator.MachineService_MachineApprove_FullMethodName:    auth.Operator,
		operator.MachineService_MachineSet_FullMethodName:        auth.Operator,
		operator.MachineService_MachineDelete_FullMethodName:     auth.Operator,
		operator.MachineService_MachineCommission_FullMethodName: auth.Operator,
		operator.MachineService_MachineDeploy_FullMethodName:     auth.Operator,
		operator.MachineService_MachineRelease_FullMethodName:    auth.Operator,
		operator.MachineService_MachinePower_FullMethodName:      auth.Operator,
		operator.MachineService_MachineCollection_FullMethodName: auth.Operator,
		operator.MachineService_BMCSet_FullMethodName:            auth.Operator,
		operator.MachineService_BMCTest_FullMethodName:           auth.Operator,

		operator.OperationService_OperationGet_FullMethodName:    auth.Operator,
		operator.OperationService_OperationList_FullMethodName:   auth.Operator,
		operator.OperationService_OperationWatch_FullMethodName:  auth.Operator,
		operator.OperationService_OperationCancel_FullMethodName: auth.Operator,

		operator.ImageService_ImageList_FullMethodName:        auth.Operator,
		operator.ImageService_ImageGet_FullMethodName:         auth.Operator,
		operator.ImageService_ImageImport_FullMethodName:      auth.Operator,
		operator.ImageService_ImageImportURL_FullMethodName:   auth.Operator,
		operator.ImageService_ImageExport_FullMethodName:      auth.Operator,
		operator.ImageService_ImageVerify_FullMethodName:      auth.Operator,
		operator.ImageService_ImageSign_FullMethodName:        auth.Operator,
		operator.ImageService_ImageUnsign_FullMethodName:      auth.Operator,
		operator.ImageService_ImageDelete_FullMethodName:      auth.Operator,
		operator.ImageService_ImagePrune_FullMethodName:       auth.Operator,
		operator.ImageService_TrustedKeyList_FullMethodName:   auth.Operator,
		operator.ImageService_TrustedKeyAdd_FullMethodName:    auth.Operator,
		operator.ImageService_TrustedKeyDelete_FullMethodName: auth.Operator,

		operator.PoolService_PoolList_FullMethodName:   auth.Operator,
		operator.PoolService_PoolAdd_FullMethodName:    auth.Operator,
		operator.PoolService_PoolSet_FullMethodName:    auth.Operator,
		operator.PoolService_PoolDelete_FullMethodName: auth.Operator,

		operator.EventService_EventList_FullMethodName:  auth.Operator,
		operator.EventService_EventWatch_FullMethodName: auth.Operator,

		operator.LeaseService_LeaseList_FullMethodName: auth.Operator,

		operator.SettingService_SettingList_FullMethodName: auth.Operator,
		operator.SettingService_SettingSet_FullMethodName:  auth.Operator,

		operator.TokenService_TokenList_FullMethodName:   auth.Operator,
		operator.TokenService_TokenCreate_FullMethodName: auth.Operator,
		operator.TokenService_TokenRevoke_FullMethodName: auth.Operator,
	}
}
