# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that the service can be. Names of attributes are those that public sources record for the vendors; what depends on what, titles and
the order of menus are made up after the same sources, so that stages are needed. Nothing here was read from hardware."""

from __future__ import annotations

import dataclasses

SWITCH = ("Disabled", "Enabled")


@dataclasses.dataclass(frozen=True)
class Closed:
    """``property`` (ReadOnly, Hidden, GrayOut) holds while ``parent`` is, or with NEQ is not, ``value``."""

    property: str
    parent: str
    condition: str
    value: str


@dataclasses.dataclass(frozen=True)
class Attr:
    name: str
    title: str
    default: object
    values: tuple[str, ...] = SWITCH
    kind: str = "Enumeration"
    closed: tuple[Closed, ...] = ()
    lower: int | None = None
    upper: int | None = None
    # Closed for good, and the registry does not say by what (empty DIMM slots, say).
    stuck: bool = False


@dataclasses.dataclass(frozen=True)
class Model:
    key: str
    manufacturer: str
    vendor: str
    system: str
    manager: str
    settings: str
    attributes: tuple[Attr, ...]
    # The settings object shows all attributes, not only what is pending.
    pending_shows_all: bool = False
    # The registry states what is so now and has no rules.
    registry_of_now: bool = False
    registry_packed: bool = False
    registry_at: str = "/redfish/v1/Registries/{name}/file"
    hides_attributes: bool = True
    apply_times: tuple[str, ...] = ()
    jobs: bool = False
    needs_etag: bool = False
    absolute_location: bool = False
    bios_gone_while_booting: bool = False
    tells_boot: bool = True
    resets: tuple[str, ...] = ("On", "ForceOff", "GracefulRestart", "ForceRestart", "PowerCycle")


def until(parent: str, value: str, prop: str = "ReadOnly") -> tuple[Closed, ...]:
    return (Closed(prop, parent, "NEQ", value),)


DELL_TDX = (
    Attr("NodeInterleave", "Node Interleaving", "Enabled"),
    Attr("ProcX2Apic", "x2APIC Mode", "Disabled"),
    Attr("CpuPaLimit", "CPU Physical Address Limit", "Enabled"),
    Attr("MemoryEncryption", "Memory Encryption", "Disabled", ("Disabled", "SingleKey", "MultipleKeys")),
    Attr("GlbMemIntegrity", "Global Memory Integrity", "Enabled", closed=until("MemoryEncryption", "MultipleKeys", "Hidden")),
    Attr("EnableTmeBypass", "TME Encryption Bypass", "Disabled", closed=until("MemoryEncryption", "MultipleKeys")),
    Attr("EnableTdx", "Intel Trust Domain Extension (TDX)", "Disabled", closed=until("MemoryEncryption", "MultipleKeys", "Hidden")),
    Attr("KeySplit", "TME-MT/TDX Key Split to non-zero value", "0", ("0", "1", "2", "3"), closed=until("EnableTdx", "Enabled")),
    Attr("EnableTdxSeamldr", "TDX Secure Arbitration Mode Loader", "Disabled", closed=until("EnableTdx", "Enabled")),
    Attr("IntelSgx", "Intel SGX", "Off", ("Off", "On"), closed=until("MemoryEncryption", "MultipleKeys")),
    Attr("PrmrrSize", "PRMRR Size", "128M", ("128M", "1G", "2G", "64G"), closed=until("IntelSgx", "On", "GrayOut")),
    Attr("SgxPackageInfoInBandAccess", "SGX Package Info In-Band Access", "Off", ("Off", "On"), closed=until("IntelSgx", "On", "Hidden")),
    Attr("SgxFactoryReset", "SGX Factory Reset", "Off", ("Off", "On"), closed=until("IntelSgx", "On", "Hidden")),
    Attr("SgxAutoRegistrationAgent", "SGX Auto MP Registration", "Disabled", closed=(Closed("ReadOnly", "SgxFactoryReset", "EQU", "On"),)),
    Attr("AssetTag", "Asset Tag", "", (), "String"),
)
DELL_SNP = (
    Attr("ProcX2Apic", "x2APIC Mode", "Enabled"),
    Attr("IommuSupport", "IOMMU Support", "Enabled"),
    Attr("Sme", "Secure Memory Encryption", "Disabled"),
    Attr("TransparentSme", "Transparent Secure Memory Encryption", "Disabled", closed=until("Sme", "Enabled")),
    Attr("Snp", "Secure Nested Paging", "Disabled", closed=until("Sme", "Enabled", "Hidden")),
    Attr("CpuMinSevAsid", "Minimum SEV non-ES ASID", 1, (), "Integer", until("Sme", "Enabled"), 1, 1007),
    Attr("Rmp", "SNP Memory Coverage", "Disabled", closed=until("Snp", "Enabled")),
)


def supermicro_tdx(end: str) -> tuple[Attr, ...]:
    tme, mt, tdx = f"MemoryEncryption_TME_{end}", f"TotalMemoryEncryptionMulti_Tenant_TME_MT_{end}", f"TrustDomainExtension_TDX_{end}"
    limit, loader = f"LimitCPUPAto46bits{end}", f"TDXSecureArbitrationModeLoader_SEAMLoader_{end}"
    return (
        Attr(limit, "Limit CPU PA to 46 bits", "Enabled"),
        Attr(tme, "Memory Encryption (TME)", "Disabled"),
        Attr(mt, "Total Memory Encryption Multi-Tenant (TME-MT)", "Disabled", closed=until(tme, "Enabled", "GrayOut")),
        Attr(f"TotalMemoryEncryption_TME_Bypass{end}", "Total Memory Encryption (TME) Bypass", "Disabled", closed=until(tme, "Enabled")),
        Attr(tdx, "Trust Domain Extension (TDX)", "Disabled", closed=until(mt, "Enabled", "Hidden")),
        Attr(loader, "TDX Secure Arbitration Mode Loader (SEAM Loader)", "Disabled", closed=until(tdx, "Enabled", "Hidden")),
        Attr(f"TME_MT_TDXKeySplit{end}", "TME-MT/TDX Key Split", 0, (), "Integer", until(tdx, "Enabled", "Hidden"), 0, 6),
        Attr(f"SWGuardExtensions_SGX_{end}", "SW Guard Extensions (SGX)", "Disabled", closed=until(loader, "Enabled")),
        Attr(f"SGXPackageInfoIn_BandAccess{end}", "SGX Package Info In-Band Access", "Disabled"),
        Attr(f"SGXFactoryReset{end}", "SGX Factory Reset", "Disabled"),
    )


def supermicro_snp(end: str) -> tuple[Attr, ...]:
    return (
        Attr(f"IOMMU{end}", "IOMMU", "Auto", ("Auto", "Disabled", "Enabled")),
        Attr(f"SMEE{end}", "SMEE", "Auto", ("Auto", "Disable", "Enabled")),
        Attr(f"SEV-ESASIDSpaceLimit{end}", "SEV-ES ASID Space Limit", 1, (), "Integer", until(f"SMEE{end}", "Enabled"), 1, 1007),
        Attr(f"SEV-SNPSupport{end}", "SEV-SNP Support", "Disabled", closed=until(f"SMEE{end}", "Enabled")),
        Attr(f"SNPMemory(RMPTable)Coverage{end}", "SNP Memory (RMP Table) Coverage", "Disabled", closed=until(f"SEV-SNPSupport{end}", "Enabled")),
    )


P = "Processors_"
LENOVO_TDX = (
    Attr(P + "LimitCPUPAto46bits", "Limit CPU PA to 46 bits", "Enabled"),
    Attr(P + "APICMode", "APIC Mode", "Auto", ("Auto", "x2APIC")),
    Attr(P + "TotalMemoryEncryption", "Total Memory Encryption (TME)", "Disabled"),
    Attr(P + "MultikeyTotalMemoryEncryption", "Multikey Total Memory Encryption", "Disabled", closed=until(P + "TotalMemoryEncryption", "Enabled", "GrayOut")),
    Attr(P + "Memoryintegrity", "Memory integrity", "Disabled", closed=until(P + "MultikeyTotalMemoryEncryption", "Enabled", "GrayOut")),
    Attr(P + "TrustDomainExtensionTDX", "Trust Domain Extension (TDX)", "Disabled", closed=until(P + "MultikeyTotalMemoryEncryption", "Enabled", "GrayOut")),
    Attr(P + "TDXSecureArbitrationModeLoaderSEAMLoader", "SEAM Loader", "Disabled", closed=until(P + "TrustDomainExtensionTDX", "Enabled", "GrayOut")),
    Attr(P + "TME_MTTDXkeysplit", "TME-MT/TDX key split", 0, (), "Integer", until(P + "TrustDomainExtensionTDX", "Enabled", "GrayOut"), 0, 5),
    Attr(P + "SWGuardExtensions", "SW Guard Extensions (SGX)", "Disabled", closed=until(P + "TotalMemoryEncryption", "Enabled", "GrayOut")),
)
LENOVO_SNP = (
    Attr("Memory_SMEE", "SMEE", "Disabled"),
    Attr("Memory_SEV_ESASIDSpaceLimit", "SEV-ES ASID Space Limit", 1, (), "Integer", lower=1, upper=1007),
    Attr(P + "SEV_SNPSupport", "SEV-SNP Support", "Disabled", closed=until("Memory_SMEE", "Enabled", "GrayOut")),
    Attr(P + "SNPMemoryRMPTableCoverage", "SNP Memory (RMP Table) Coverage", "Disabled", closed=until(P + "SEV_SNPSupport", "Enabled", "GrayOut")),
)
# No names for TDX are recorded: these are plainly examples, with the titles of Intel's reference.
HPE_TDX = (
    Attr("ExampleTme", "Total Memory Encryption (TME)", "Disabled"),
    Attr("ExampleTmeMt", "TME-MT", "Disabled", closed=until("ExampleTme", "Enabled")),
    Attr("ExampleTdx", "Trust Domain Extension (TDX)", "Disabled", closed=until("ExampleTmeMt", "Enabled")),
    Attr("ExampleSeamLoader", "TDX SEAM Loader", "Disabled", closed=until("ExampleTdx", "Enabled")),
    Attr("ExampleSgx", "SW Guard Extensions (SGX)", "Disabled", closed=until("ExampleTme", "Enabled")),
)
HPE_SNP = (
    Attr("AmdSecureMemoryEncryption", "AMD Secure Memory Encryption", "Disabled"),
    Attr("AmdSecureNestedPaging", "AMD Secure Nested Paging", "Disabled", closed=until("AmdSecureMemoryEncryption", "Enabled", "GrayOut")),
    Attr("MinimumSevAsid", "Minimum SEV ASID", 1, (), "Integer", lower=1, upper=510),
)
CISCO_TDX = (
    Attr("CpuPaLimit", "Limit CPU PA to 46 bits", "Enabled"),
    Attr("EnableTme", "Total Memory Encryption (TME)", "Disabled"),
    Attr("EnableMktme", "Multikey Total Memory Encryption (MK-TME)", "Disabled", closed=until("EnableTme", "Enabled", "GrayOut")),
    Attr("EnableSgx", "SW Guard Extensions (SGX)", "Disabled", closed=until("EnableTme", "Enabled", "GrayOut")),
    Attr("EnableTdx", "Trust Domain Extension (TDX)", "Disabled", closed=until("EnableMktme", "Enabled", "GrayOut")),
    Attr("EnableTdxSeamldr", "TDX SEAM Loader", "Disabled", closed=until("EnableTdx", "Enabled", "GrayOut")),
)


def ami(name: str, title: str, default: str, values: tuple[str, ...], closed: tuple[Closed, ...] = ()) -> Attr:
    return Attr(name, title, name + default, tuple(name + value for value in values), closed=closed)


AMI_SNP = (
    ami("CbsCmnCpuSmee", "SMEE", "Auto", ("Disable", "Enabled", "Auto")),
    ami("CbsCmnCpuSevAsidCount", "SEV ASID Count", "Auto", ("253ASIDs", "509ASIDs", "Auto")),
    ami("CbsCmnCpuSevAsidSpaceCtrl", "SEV-ES ASID Space Limit Control", "Auto", ("Auto", "Manual")),
    Attr(
        "CbsCmnCpuSevAsidSpaceLimit",
        "SEV-ES ASID Space Limit",
        1,
        (),
        "Integer",
        until("CbsCmnCpuSevAsidSpaceCtrl", "CbsCmnCpuSevAsidSpaceCtrlManual", "Hidden"),
        1,
        1007,
    ),
    ami("CbsSevSnpSupport", "SEV-SNP Support", "Disable", ("Disable", "Enable"), until("CbsCmnCpuSmee", "CbsCmnCpuSmeeEnabled", "GrayOut")),
    ami(
        "CbsDbgCpuSnpMemCover",
        "SNP Memory (RMP Table) Coverage",
        "Auto",
        ("Disabled", "Enabled", "Auto"),
        until("CbsSevSnpSupport", "CbsSevSnpSupportEnable", "GrayOut"),
    ),
)
CISCO_SNP = (
    Attr("CbsCmnCpuSmee", "SMEE", "Auto", ("Auto", "Disabled", "Enabled")),
    Attr("CbsCmnCpuSevAsidSpaceLimit", "SEV-ES ASID Space Limit", 1, (), "Integer", lower=1, upper=1007),
    Attr("CbsSevSnpSupport", "SEV-SNP Support", "Disabled", closed=until("CbsCmnCpuSmee", "Enabled", "GrayOut")),
    Attr("CbsDbgCpuSnpMemCover", "SNP Memory (RMP Table) Coverage", "Disabled", closed=until("CbsSevSnpSupport", "Enabled", "GrayOut")),
)
NVIDIA_TDX = (
    Attr("EnableTme", "Total Memory Encryption (TME)", "Disabled"),
    Attr("EnableMktme", "Total Memory Encryption Multi-Tenant (TME-MT)", "Disabled", closed=until("EnableTme", "Enabled", "GrayOut")),
    Attr("EnableGlobalIntegrity", "Global Memory Integrity", "Disabled", closed=until("EnableMktme", "Enabled", "GrayOut")),
    Attr("EnableTdx", "Trust Domain Extension (TDX)", "Disabled", closed=until("EnableMktme", "Enabled", "GrayOut")),
    Attr("EnableTdxSeamldr", "TDX SEAM Loader", "Disabled", closed=until("EnableTdx", "Enabled", "GrayOut")),
    Attr("KeySplit", "TME-MT/TDX Key Split", 0, (), "Integer", until("EnableTdx", "Enabled", "GrayOut"), 0, 6),
    Attr("EnableSgx", "SW Guard Extensions (SGX)", "Disabled", closed=until("EnableTme", "Enabled", "GrayOut")),
    Attr("PrmSgxSize", "PRM Size for SGX", "Auto", ("Auto", "2G"), closed=until("EnableSgx", "Enabled", "GrayOut")),
)

DELL = {"manufacturer": "Dell Inc.", "vendor": "Dell", "system": "System.Embedded.1", "manager": "iDRAC.Embedded.1", "settings": "Settings", "jobs": True}
SUPER = {"manufacturer": "Supermicro", "vendor": "Supermicro", "system": "1", "manager": "1", "settings": "SD", "pending_shows_all": True}
LENOVO = {"manufacturer": "Lenovo", "vendor": "Lenovo", "system": "1", "manager": "1", "settings": "Pending", "hides_attributes": False}
HPE = {"manufacturer": "HPE", "vendor": "HPE", "system": "1", "manager": "1", "settings": "settings", "pending_shows_all": True}
CISCO = {
    "manufacturer": "Cisco Systems Inc",
    "vendor": "Cisco Systems Inc.",
    "system": "WZP0000000A",
    "manager": "CIMC",
    "settings": "Settings",
    "needs_etag": True,
}
AMI = {"manufacturer": "ASRockRack", "vendor": "AMI", "system": "Self", "manager": "Self", "settings": "SD", "needs_etag": True, "tells_boot": False}
DGX = {"manufacturer": "NVIDIA", "vendor": "AMI", "system": "DGX", "manager": "BMC", "settings": "SD", "needs_etag": True, "hides_attributes": False}
MODELS = {
    model.key: model
    for model in (
        Model("dell-tdx", attributes=DELL_TDX, apply_times=("OnReset", "Immediate"), registry_of_now=True, **DELL),
        Model("dell-snp", attributes=DELL_SNP, **DELL),
        Model("supermicro-tdx", attributes=supermicro_tdx("#3C38"), bios_gone_while_booting=True, **SUPER),
        Model("supermicro-snp", attributes=supermicro_snp("_F319"), tells_boot=False, **SUPER),
        Model("lenovo-tdx", attributes=LENOVO_TDX, **LENOVO),
        Model("lenovo-snp", attributes=LENOVO_SNP, **LENOVO),
        Model("hpe-tdx", attributes=HPE_TDX, registry_packed=True, absolute_location=True, **HPE),
        Model("hpe-snp", attributes=HPE_SNP, registry_packed=True, absolute_location=True, **HPE),
        Model("cisco-tdx", attributes=CISCO_TDX, **CISCO),
        Model("cisco-snp", attributes=CISCO_SNP, **CISCO),
        Model("asrock-snp", attributes=AMI_SNP, **AMI),
        Model("nvidia-tdx", attributes=NVIDIA_TDX, apply_times=("OnReset",), **DGX),
    )
}
