from eval.false_alarms.command import false_alarms

if __name__ == "__main__":
    false_alarms()
