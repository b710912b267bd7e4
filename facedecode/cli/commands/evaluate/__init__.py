"""`facedecode evaluate …`: one module an evaluation, and what each measures in one sentence."""

from facedecode.cli.app import lazy_group

SECTIONS = {
    "Evaluations": {
        "reconstruction": ("reconstruction", "How like the originals decoders' pictures are: PSNR, SSIM, scores …"),
        "verification": ("verification", "How well templates verify people: accuracy, EER, TAR@FAR, ROC, DET."),
        "security": ("security", "How often decoded faces pass as the person (type I and II attacks)."),
        "protection": ("protection", "Template protection: accuracy, linkability, and attacks on it."),
        "equivariance": ("equivariance", "How linearly perturbations of faces act on their templates."),
        "aggregation": ("aggregation", "How much more images a template help verification."),
        "leakage": ("leakage", "What a template reveals besides the person: pose, light, labels."),
    }
}
app = lazy_group(__name__, SECTIONS, "Measure stores and decoders: figures with intervals, and reports of them.")


def summary(name: str) -> str:
    """What an evaluation measures, in one sentence."""
    return SECTIONS["Evaluations"][name][1]
