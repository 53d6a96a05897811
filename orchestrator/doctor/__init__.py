"""`quantsweep doctor`: tries a machine as sweeps would use it, and says what is off and how to mend it.

from orchestrator.doctor.examine import examine
diagnosis = examine()
diagnosis.off                       # what has to be mended; empty where all is well
"""
